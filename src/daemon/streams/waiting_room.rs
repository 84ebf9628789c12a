//! Connections for which the registry has no place. A connection that resumes a session may take the place of the
//! session's old connection, if that is still registered. So each connection waits a short time for its HELLO, and is
//! refused unless it resumes such a session.

use std::time::Duration;

use upcall_engine::{Now, Registration, Time};
use upcall_wire::frame::{Frame, FrameDecoder, Resume};
use upcall_wire::reason::Refusal;

use super::{NextRead, Streams};
use crate::daemon::context::Context;
use crate::daemon::listeners::Listeners;
use crate::daemon::timers::RetryQueue;
use crate::daemon::tokens::ConnectionKey;

/// The time that a connection has to send a HELLO that resumes a session.
const MAX_WAIT: Duration = Duration::from_millis(50);

/// At most this many connections wait. Further ones are refused at once.
const MAX_WAITING: usize = 64;

/// The largest HELLO that is recognized, in bytes. A HELLO that resumes a session needs no filters, and one with the
/// longest token fits.
const MAX_HELLO: usize = 2048;

/// A connection that waits for a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) key: ConnectionKey,
    pub(super) registration: Registration,
    /// The reason why there is no place.
    pub(super) refusal: Refusal,
}

/// The waiting connections, oldest first. A connection that was decided on early stays in the queue until its time is
/// over.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    waiting: RetryQueue<Waiting>,
}

impl WaitingRoom {
    pub(super) fn new() -> WaitingRoom {
        WaitingRoom { waiting: RetryQueue::new(MAX_WAIT) }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.waiting.next()
    }

    fn find(&self, key: ConnectionKey) -> Option<Waiting> {
        self.waiting.iter().find(|waiting| waiting.key == key).copied()
    }
}

impl Streams {
    /// Lets a connection that may speak native wait for a place.
    pub(super) fn wait_for_place(&mut self, context: &mut Context, listeners: &Listeners, now: Now, waiting: Waiting) {
        if self.waiting_room.waiting.len() >= MAX_WAITING {
            let Waiting { key, registration, refusal } = waiting;
            return self.refuse(context, listeners, now, key, registration.peer, refusal);
        }
        self.waiting_room.waiting.add(now.time, waiting);
    }

    /// Handles a readable connection that has no endpoint.
    pub(super) fn read_waiting(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        now: Now,
        key: ConnectionKey,
    ) -> NextRead {
        match self.waiting_room.find(key) {
            Some(waiting) => self.decide(context, listeners, now, waiting),
            None => NextRead::OnEvent,
        }
    }

    /// Decides on the connections whose time is over. Some may have sent their HELLO, but were not read because inputs
    /// were held.
    pub(in crate::daemon) fn clear_waiting_room(&mut self, context: &mut Context, listeners: &Listeners, now: Now) {
        while let Some(waiting) = self.waiting_room.waiting.pop(now.time) {
            // Skip those that were decided on: one that was admitted has an endpoint, and a refused one discards input.
            let connection = self.connections.get(waiting.key);
            if connection.is_some_and(|connection| connection.endpoint.is_none() && !connection.discards)
                && self.decide(context, listeners, now, waiting) == NextRead::Later
            {
                self.mark_readable(waiting.key, false);
            }
        }
    }

    fn decide(&mut self, context: &mut Context, listeners: &Listeners, now: Now, waiting: Waiting) -> NextRead {
        let Waiting { key, registration, refusal } = waiting;
        // A reload may have removed its listener.
        let connection = self.connections.get(key).filter(|_| listeners.get(registration.listener).is_some());
        let resume = connection.and_then(|connection| {
            let mut bytes = [0; MAX_HELLO];
            let count = connection.stream.peek(&mut bytes)?;
            resumed_session(&bytes[..count])
        });
        let old = resume.and_then(|resume| context.engine.superseded_by(&resume, registration.peer));
        match old.map(|old| context.engine.register_superseding(now, registration, Some(old))) {
            Some(Ok(endpoint)) => {
                self.enter(context, listeners, key, endpoint);
                // Its HELLO was only peeked at, and must still be read.
                NextRead::Later
            }
            _ => {
                self.refuse(context, listeners, now, key, registration.peer, refusal);
                NextRead::OnEvent
            }
        }
    }
}

/// The session that a connection resumes, according to its first bytes.
fn resumed_session(mut bytes: &[u8]) -> Option<Resume> {
    match FrameDecoder::default().next(&mut bytes, MAX_HELLO) {
        Ok(Some(Frame::Hello(hello))) => hello.resume,
        _ => None,
    }
}
