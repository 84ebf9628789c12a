//! From the log to the sockets: which endpoints have something to send, what is sent, and how much of it was written.
//!
//! `streams` and `datagrams` decide what is written; this file keeps the list of endpoints that are ready.

pub(crate) mod acknowledged;
mod datagrams;
pub(crate) mod outbox;
mod recovery;
mod streams;

use upcall_wire::frame::{Frame, Gap};

use crate::id::EndpointId;
use crate::log::reading::Cursor;
use crate::registry::endpoint::Delivery;
use crate::{Engine, Now};
use outbox::MAX_CONTROL;

pub use datagrams::Run;

/// The progress of an endpoint after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Everything that was due to it is written, or it has left.
    Done,
    /// There is more to write.
    More,
}

impl Engine {
    /// Record `sequence`, which was just appended, is due to this endpoint.
    pub(crate) fn mark_due(&mut self, id: EndpointId, sequence: u64) {
        let first = self.turn.broadcast.unwrap_or(sequence);
        if let Some(endpoint) = self.registry.get_mut(id)
            && endpoint.is_idle()
        {
            endpoint.cursor = endpoint.cursor.max(Cursor::at(first));
            endpoint.delivery = Delivery::Ready;
            self.ready.push(id);
        }
    }

    /// An endpoint has something to send besides what is due to it.
    pub(crate) fn make_ready(&mut self, id: EndpointId) {
        let first = self.turn.broadcast.unwrap_or(self.log.next());
        self.mark_due(id, first);
    }

    /// Adds every endpoint that has something to send, and whose socket may take it, to `ready`, once each.
    pub fn take_ready(&mut self, ready: &mut Vec<EndpointId>) {
        ready.append(&mut self.ready);
        if let Some(first) = self.turn.broadcast.take() {
            self.registry.for_everyone(|id, endpoint| {
                if endpoint.is_idle() {
                    // Its cursor was not kept up to date, but nothing was due to it between that place and this turn.
                    endpoint.cursor = endpoint.cursor.max(Cursor::at(first));
                    endpoint.delivery = Delivery::Ready;
                    ready.push(id);
                }
            });
        }
    }

    /// Whether some endpoint has something to send.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty() || self.turn.broadcast.is_some()
    }

    /// The endpoint's socket is full. The driver calls [`Engine::writable`] when it has room again.
    pub fn blocked(&mut self, now: Now, id: EndpointId) {
        let Some(endpoint) = self.registry.ready_mut(id) else { return };
        endpoint.delivery = Delivery::Blocked;
        self.record_position(now, id);
    }

    /// The endpoint's socket may have room again.
    pub fn writable(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.registry.get_mut(id)
            && endpoint.delivery == Delivery::Blocked
        {
            endpoint.delivery = Delivery::Ready;
            self.ready.push(id);
        }
    }

    /// Everything that was due to an endpoint is written. If it was about to leave, it leaves.
    pub(crate) fn caught_up(&mut self, now: Now, id: EndpointId) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        endpoint.delivery = Delivery::CaughtUp;
        endpoint.outbox = None;
        let leaving = endpoint.leaving;
        self.clear_lag(now, id);
        if let Some(reason) = leaving {
            self.remove(now, id, reason, true);
        }
    }

    /// Sends a control frame to a native endpoint, at the next boundary between records.
    pub(crate) fn send_control(&mut self, id: EndpointId, frame: &Frame<'_>) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        if endpoint.delivery == Delivery::WriteClosed {
            return;
        }
        let is_datagram = endpoint.transport.is_datagram();
        let outbox = endpoint.outbox.get_or_insert_default();
        // Over datagrams the client repeats requests that were not answered.
        if !is_datagram || outbox.pending_control() < MAX_CONTROL {
            outbox.push_control(frame);
        }
        if is_datagram && endpoint.delivery == Delivery::Blocked {
            // Answers need no room in the window and must not wait for it: they show that the daemon is running.
            self.resume_sending(id);
        }
        self.make_ready(id);
    }

    /// Announces a gap to a native endpoint.
    pub(crate) fn announce_gap(&mut self, id: EndpointId, gap: Gap) {
        match self.registry.get_mut(id).and_then(|endpoint| endpoint.acknowledged_mut()) {
            Some(acknowledged) => acknowledged.announce(gap),
            None => self.send_control(id, &Frame::Gap(gap)),
        }
    }
}
