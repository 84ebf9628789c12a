//! From the log to the sockets: who has something to write, what it is, and how far that got.

use super::log::{Reading, Slices};
use super::{Cursor, Delivery, Endpoint, EndpointId, Engine, Now};

/// How far an endpoint is after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Everything that was due to it is written, or it has left.
    Done,
    /// There is more to write.
    More,
}

/// Datagrams for one endpoint that lie side by side: `bytes` is `count` payloads of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    /// The payloads.
    pub bytes: &'a [u8],
    /// How many they are, at least 1.
    pub count: usize,
}

impl Endpoint {
    pub(super) fn reading(&self, next: u64) -> Reading {
        Reading { cursor: self.cursor, until: self.until.min(next), reader: self.number }
    }
}

impl Engine {
    /// Record `sequence`, just appended, is due to this endpoint.
    pub(super) fn mark_due(&mut self, id: EndpointId, sequence: u64) {
        let first = self.broadcast.unwrap_or(sequence);
        if let Some(endpoint) = self.registry.get_mut(id)
            && endpoint.delivery == Delivery::CaughtUp
        {
            endpoint.cursor = endpoint.cursor.max(Cursor::at(first));
            endpoint.delivery = Delivery::Ready;
            self.ready.push(id);
        }
    }

    /// Every endpoint that has something to write and whose socket may take it, once each, into `ready`.
    pub fn take_ready(&mut self, ready: &mut Vec<EndpointId>) {
        ready.append(&mut self.ready);
        let Some(first) = self.broadcast.take() else { return };
        debug_assert!(first >= self.log.oldest(), "a turn may not take more than the log holds");
        for (id, endpoint) in self.registry.iter_mut() {
            if endpoint.receives && endpoint.delivery == Delivery::CaughtUp {
                // Its cursor is where it last was: since then, nothing was due to it up to this turn.
                endpoint.cursor = endpoint.cursor.max(Cursor::at(first));
                endpoint.delivery = Delivery::Ready;
                ready.push(id);
            }
        }
    }

    /// What is to be written to an endpoint now. Empty where nothing is, which is to be [advanced](Engine::advance) by
    /// 0 all the same.
    pub fn slices(&self, id: EndpointId) -> Slices<'_> {
        let mut slices = Slices::new();
        if let Some(endpoint) = self.registry.get(id).filter(|endpoint| endpoint.delivery == Delivery::Ready)
            && self.log.slices(&endpoint.reading(self.log.next()), &mut slices)
            && let Some(outbox) = &endpoint.outbox
        {
            outbox.slices(&mut slices);
        }
        slices
    }

    /// Takes note that `written` bytes of what [`Engine::slices`] gave are written.
    pub fn advance(&mut self, now: Now, id: EndpointId, written: usize) -> Progress {
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id) else { return Progress::Done };
        let reading = endpoint.reading(next);
        let advanced = self.log.advance(&reading, written);
        endpoint.cursor = advanced.cursor;
        endpoint.upcalls += advanced.completed;
        self.counters.upcalls += advanced.completed;
        let done = advanced.cursor.sequence >= reading.until
            && endpoint.outbox.as_mut().is_none_or(|outbox| outbox.advance(advanced.rest));
        if !done {
            return Progress::More;
        }
        self.caught_up(now, id);
        Progress::Done
    }

    /// Everything that was due to an endpoint is written; one that was about to leave leaves.
    pub(super) fn caught_up(&mut self, now: Now, id: EndpointId) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        endpoint.delivery = Delivery::CaughtUp;
        endpoint.outbox = None;
        let leaving = endpoint.leaving;
        self.stop_lagging(now, id);
        if let Some(reason) = leaving {
            self.remove(id, reason, true);
        }
    }

    /// The next datagrams for an endpoint: no more than `max_count`, and, but for a lone one, than `max_bytes`. None where
    /// nothing is left, which is to be [passed](Engine::pass) by 0 all the same.
    pub fn run(&self, id: EndpointId, max_bytes: usize, max_count: usize) -> Option<Run<'_>> {
        let endpoint = self.registry.get(id).filter(|endpoint| endpoint.delivery == Delivery::Ready)?;
        let (bytes, count) = match self.log.run(&endpoint.reading(self.log.next()), max_bytes, max_count) {
            Some(run) => run,
            None => (endpoint.outbox.as_ref()?.farewell(), 1),
        };
        Some(Run { bytes, count })
    }

    /// Takes note that an endpoint has got `count` more datagrams, or that it cannot get them.
    pub fn pass(&mut self, now: Now, id: EndpointId, count: usize, got: bool) -> Progress {
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id) else { return Progress::Done };
        let reading = endpoint.reading(next);
        let (cursor, passed) = self.log.pass(&reading, count);
        endpoint.cursor = endpoint.cursor.max(cursor);
        if got {
            endpoint.upcalls += passed as u64;
            self.counters.upcalls += passed as u64;
        } else {
            self.counters.skipped += passed as u64;
        }
        if cursor.sequence < reading.until || (endpoint.outbox.is_some() && passed == count) {
            return Progress::More;
        }
        self.caught_up(now, id);
        Progress::Done
    }

    /// The endpoint's socket takes no more for now; say so with [`Engine::writable`] when it does again.
    pub fn blocked(&mut self, now: Now, id: EndpointId) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        if endpoint.delivery != Delivery::Ready {
            return;
        }
        endpoint.delivery = Delivery::Blocked;
        self.place(now, id);
    }

    /// The endpoint's socket may take something again.
    pub fn writable(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.registry.get_mut(id)
            && endpoint.delivery == Delivery::Blocked
        {
            endpoint.delivery = Delivery::Ready;
            self.ready.push(id);
        }
    }
}
