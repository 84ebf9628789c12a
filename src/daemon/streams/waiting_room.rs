//! Connections for which there is no place. One that resumes a session whose connection is still registered may take
//! that place. Its HELLO comes with the connection, so it waits for a short time only; without such a HELLO it is
//! refused.

use std::time::Duration;

use super::{NextRead, Streams};
use crate::daemon::context::Context;
use crate::daemon::listeners::Listeners;
use crate::daemon::timers::Deadlines;
use crate::daemon::tokens::ConnectionKey;
use upcall_engine::{Now, Registration, Time};
use upcall_wire::frame::{Frame, FrameDecoder, Resume};
use upcall_wire::reason::Refusal;

/// How long a connection may take to send a HELLO that resumes a session.
const PATIENCE: Duration = Duration::from_millis(50);

/// At most this many connections wait. Others are refused at once.
const ROOM: usize = 64;

/// The first bytes that are looked at: a HELLO with the longest token fits, and one that resumes needs no filters.
const HELLO: usize = 2048;

/// A connection that waits for a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) key: ConnectionKey,
    pub(super) registration: Registration,
    /// Why there is no place.
    pub(super) refusal: Refusal,
}

/// The connections that wait, the oldest first. One that was decided on stays until its time is over.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    waiting: Deadlines<Waiting>,
}

impl WaitingRoom {
    pub(super) fn new() -> WaitingRoom {
        WaitingRoom { waiting: Deadlines::new(PATIENCE) }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.waiting.next()
    }

    fn find(&self, key: ConnectionKey) -> Option<Waiting> {
        self.waiting.iter().find(|waiting| waiting.key == key).copied()
    }
}

impl Streams {
    /// There is no place for a connection that may speak native.
    pub(super) fn wait_for_place(&mut self, context: &mut Context, listeners: &Listeners, now: Now, waiting: Waiting) {
        if self.waiting_room.waiting.len() >= ROOM {
            let Waiting { key, registration, refusal } = waiting;
            return self.refuse(context, listeners, now, key, registration.peer, refusal);
        }
        self.waiting_room.waiting.add(now.time, waiting);
    }

    /// A connection without an endpoint has sent something.
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

    /// Decides on the connections that have waited for long enough. Some may have sent their HELLO while nothing was
    /// read, because inputs waited.
    pub(in crate::daemon) fn clear_waiting_room(&mut self, context: &mut Context, listeners: &Listeners, now: Now) {
        while let Some(waiting) = self.waiting_room.waiting.pop(now.time) {
            // One that was let in has an endpoint, and the input of one that was refused is discarded.
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
            let mut bytes = [0; HELLO];
            let count = connection.stream.peek(&mut bytes)?;
            resumed_session(&bytes[..count])
        });
        let old = resume.and_then(|resume| context.engine.superseded_by(&resume, registration.peer));
        match old.map(|old| context.engine.register_superseding(now, registration, Some(old))) {
            Some(Ok(endpoint)) => {
                self.enter(context, listeners, key, endpoint);
                // Its HELLO was only looked at, and is still to be read.
                NextRead::Later
            }
            _ => {
                self.refuse(context, listeners, now, key, registration.peer, refusal);
                NextRead::OnEvent
            }
        }
    }
}

/// The session that a connection resumes, by its first bytes.
fn resumed_session(mut bytes: &[u8]) -> Option<Resume> {
    match FrameDecoder::default().next(&mut bytes, HELLO) {
        Ok(Some(Frame::Hello(hello))) => hello.resume,
        _ => None,
    }
}
