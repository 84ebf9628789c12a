//! Stream connections: accepting, reading, writing, closing.
//!
//! Each turn reads once from every connection that may be readable, while the engine accepts inputs; writes come
//! afterwards. Knows the listeners that connections belong to. Must not know datagrams.
//!
//! The struct is defined here; the other files add methods to it, one part of its work each, and call each other's. These
//! are the only arrows inside this folder that point back up.

mod accept;
mod close;
mod connection;
mod liveness;
mod native;
mod read;
mod text;
mod waiting_room;
mod write;
mod written;

use std::collections::VecDeque;

use slotmap::SlotMap;
use upcall_engine::{EndpointId, Engine, Intake, Now, Time};

use super::context::Context;
use super::listeners::Listeners;
use super::tokens::ConnectionKey;
use connection::Connection;
use waiting_room::WaitingRoom;

/// The most bytes that are read from a socket at a time.
const READ: usize = 64 * 1024;

/// When to read from a connection again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextRead {
    /// After the next event of its socket.
    OnEvent,
    /// After all others.
    Later,
    /// Before all others, because bytes that were read already are kept in memory. Only a few connections may be in
    /// this state.
    First,
    /// When the engine [reports](upcall_engine::Event::Unparked) that the endpoint's own lag no longer puts off its
    /// inputs.
    Parked,
}

/// All connections.
pub(super) struct Streams {
    connections: SlotMap<ConnectionKey, Connection>,
    /// Connections that may be readable.
    readable: VecDeque<ConnectionKey>,
    /// Readable connections whose input is discarded.
    discarding: VecDeque<ConnectionKey>,
    waiting_room: WaitingRoom,
    /// That accepting has failed for lack of resources was logged, and the sockets have not been drained since.
    is_pause_logged: bool,
    /// The next liveness check.
    next_check: Option<Time>,
    buffer: Box<[u8]>,
}

impl Streams {
    pub(super) fn new() -> Streams {
        Streams {
            connections: SlotMap::with_key(),
            readable: VecDeque::new(),
            discarding: VecDeque::new(),
            waiting_room: WaitingRoom::new(),
            is_pause_logged: false,
            next_check: None,
            buffer: vec![0; READ].into_boxed_slice(),
        }
    }

    /// Whether there is no connection.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// The next deadlines of the liveness check and of the waiting room.
    pub(super) fn deadlines(&self) -> [Option<Time>; 2] {
        [self.next_check, self.waiting_room.deadline()]
    }

    /// Whether something can be read now, so that the loop must not wait for events.
    pub(super) fn have_pending_reads(&self, engine: &Engine) -> bool {
        let inputs = match engine.intake() {
            Intake::Open | Intake::Full => !self.readable.is_empty(),
            Intake::Only(endpoint) => {
                let connection = key_of(engine, endpoint).and_then(|key| self.connections.get(key));
                connection.is_some_and(|connection| connection.readable && !connection.discards)
                    && !engine.is_parked(endpoint)
            }
            Intake::Held => false,
        };
        inputs || !self.discarding.is_empty()
    }

    /// Records that a connection has room to write.
    pub(super) fn writable(&self, engine: &mut Engine, key: ConnectionKey) {
        if let Some(endpoint) = self.connections.get(key).and_then(|connection| connection.endpoint) {
            engine.writable(endpoint);
        }
    }

    /// Records that a connection may be readable.
    pub(super) fn mark_readable(&mut self, key: ConnectionKey, hangup: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.readable = true;
        connection.hangup |= hangup;
        // Add it to its queue, unless it is there already.
        if connection.discards {
            if !std::mem::replace(&mut connection.in_discarding, true) {
                self.discarding.push_back(key);
            }
        } else if !std::mem::replace(&mut connection.in_readable, true) {
            self.readable.push_back(key);
        }
    }

    /// Reads once from every connection that may be readable, while the engine accepts inputs.
    pub(super) fn receive(&mut self, context: &mut Context, listeners: &Listeners, now: Now) {
        for _ in 0..self.discarding.len() {
            if let Some(key) = self.discarding.pop_front() {
                self.read_and_discard(context, now, key);
            }
        }
        for _ in 0..self.readable.len() {
            match context.engine.intake() {
                Intake::Open => {}
                Intake::Only(endpoint) => return self.receive_only(context, listeners, now, endpoint),
                Intake::Full | Intake::Held => return,
            }
            let Some(key) = self.readable.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.in_readable = false;
            if !connection.readable || connection.discards {
                continue;
            }
            let next = self.receive_from(context, listeners, now, key);
            self.requeue(key, next);
        }
    }

    /// Reads from the only endpoint whose inputs are not held: the one for which all others are held. It keeps its
    /// place in the queue.
    fn receive_only(&mut self, context: &mut Context, listeners: &Listeners, now: Now, endpoint: EndpointId) {
        let Some(key) = key_of(&context.engine, endpoint) else { return };
        if self.connections.get(key).is_some_and(|connection| connection.readable && !connection.discards) {
            let next = self.receive_from(context, listeners, now, key);
            self.requeue(key, if next == NextRead::First { NextRead::Later } else { next });
        }
    }

    /// Puts a connection into the queue for its next read.
    fn requeue(&mut self, key: ConnectionKey, next: NextRead) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.readable = next != NextRead::OnEvent;
        match next {
            NextRead::OnEvent | NextRead::Parked => {}
            NextRead::First if !connection.discards => {
                // It may be in the queue already. A second entry does no harm.
                connection.in_readable = true;
                self.readable.push_front(key);
            }
            NextRead::First | NextRead::Later => self.mark_readable(key, false),
        }
    }
}

/// The key of an endpoint's connection; `None` for a datagram endpoint, whose tag is a key of another kind.
fn key_of(engine: &Engine, endpoint: EndpointId) -> Option<ConnectionKey> {
    let endpoint = engine.endpoint(endpoint).filter(|endpoint| !endpoint.transport.is_datagram())?;
    Some(ConnectionKey::from_tag(endpoint.tag))
}
