//! From the log to the sockets: who has something to write, what it is, and how far that got.

pub(crate) mod acknowledged;
pub(crate) mod outbox;
pub(crate) mod recovery;

use crate::id::EndpointId;
use crate::log::reading::Cursor;
use crate::log::slices::Slices;
use crate::registry::endpoint::{Delivery, Native};
use crate::{Engine, Event, Now};

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

/// Frames that cannot be written as they lie in the log are copied, so many bytes at a time.
const COPY: usize = 64 * 1024;

impl Engine {
    /// Record `sequence`, just appended, is due to this endpoint.
    pub(crate) fn mark_due(&mut self, id: EndpointId, sequence: u64) {
        let first = self.broadcast.unwrap_or(sequence);
        if let Some(endpoint) = self.registry.get_mut(id)
            && endpoint.is_waiting()
        {
            endpoint.cursor = endpoint.cursor.max(Cursor::at(first));
            endpoint.delivery = Delivery::Ready;
            self.ready.push(id);
        }
    }

    /// An endpoint has something to write besides what is due to it.
    pub(crate) fn make_ready(&mut self, id: EndpointId) {
        let first = self.broadcast.unwrap_or(self.log.next());
        self.mark_due(id, first);
    }

    /// Every endpoint that has something to write and whose socket may take it, once each, into `ready`.
    pub fn take_ready(&mut self, ready: &mut Vec<EndpointId>) {
        ready.append(&mut self.ready);
        if let Some(first) = self.broadcast.take() {
            self.registry.for_everyone(|id, endpoint| {
                if endpoint.is_waiting() {
                    // Its cursor is where it last was: since then, nothing was due to it up to this turn.
                    endpoint.cursor = endpoint.cursor.max(Cursor::at(first));
                    endpoint.delivery = Delivery::Ready;
                    ready.push(id);
                }
            });
        }
    }

    /// Whether anybody has something to write.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty() || self.broadcast.is_some()
    }

    /// Everything that is due to a stream, where that lies side by side and is read as it lies: so it does nearly always. Once
    /// it is written there is [no more](Engine::advance_all) to be found out.
    pub fn single_slice(&self, id: EndpointId) -> Option<&[u8]> {
        let endpoint = self.registry.get(id).filter(|endpoint| endpoint.delivery == Delivery::Ready)?;
        let reading = endpoint.reading(self.log.next());
        let precedes = |native: &Native| native.prev + 1 == reading.cursor.sequence && !native.answers_unread;
        if endpoint.outbox.is_some() || !endpoint.native().is_none_or(precedes) {
            return None;
        }
        self.log.ring(endpoint.rendition()).whole(&reading)
    }

    /// What is to be written to a stream now. Empty where nothing is, which is to be [advanced](Engine::advance) by 0 all
    /// the same.
    pub fn slices(&mut self, id: EndpointId) -> Slices<'_> {
        let Engine { registry, log, copied, .. } = self;
        let mut slices = Slices::new();
        let Some(endpoint) = registry.get(id).filter(|endpoint| endpoint.delivery == Delivery::Ready) else {
            return slices;
        };
        let ring = log.ring(endpoint.rendition());
        let mut reading = endpoint.reading(log.next());
        let outbox = endpoint.outbox.as_deref();
        let front = outbox.filter(|outbox| !outbox.is_front_empty());
        if let Some(outbox) = front {
            if reading.cursor.offset > 0 {
                // What comes first has to wait for the record that has begun.
                reading.until = reading.cursor.sequence + 1;
            } else if !outbox.front(&mut slices) {
                return slices;
            }
        }
        let whole = match endpoint.native().map(|native| native.prev) {
            Some(prev) if ring.is_selective(&reading) || prev + 1 != reading.cursor.sequence => {
                copied.clear();
                let whole = ring.copy(&reading, prev, COPY, copied);
                slices.push(copied.get(reading.cursor.offset as usize..).unwrap_or_default()) && whole
            }
            _ => ring.slices(&reading, &mut slices),
        };
        if whole
            && (front.is_none() || reading.cursor.offset == 0)
            && let Some(outbox) = outbox
        {
            outbox.back(&mut slices);
        }
        slices
    }

    /// Takes note that `written` bytes of what [`Engine::slices`] gave are written.
    pub fn advance(&mut self, now: Now, id: EndpointId, mut written: usize) -> Progress {
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id) else { return Progress::Done };
        let ring = self.log.ring(endpoint.rendition());
        let inside = endpoint.cursor.offset > 0;
        let front = endpoint.outbox.as_mut().filter(|outbox| !outbox.is_front_empty());
        let waits = front.is_some() && inside;
        if let Some(outbox) = front.filter(|_| !inside) {
            written = outbox.advance_front(written);
        }
        let mut reading = endpoint.reading(next);
        let until = reading.until;
        if waits {
            reading.until = reading.cursor.sequence + 1;
        }
        let advanced = ring.advance(&reading, written);
        endpoint.cursor = advanced.cursor;
        endpoint.upcalls += advanced.completed;
        self.counters.upcalls += advanced.completed;
        let tag = endpoint.tag;
        let read_up = endpoint.outbox.as_ref().is_none_or(|outbox| outbox.pending_control() == 0);
        if let Some(native) = endpoint.native_mut() {
            native.prev = native.prev.max(advanced.last);
            if read_up && std::mem::take(&mut native.answers_unread) {
                self.events.push_back(Event::Unparked(tag));
            }
        }
        let done = advanced.cursor.sequence >= until
            && endpoint.outbox.as_mut().is_none_or(|outbox| outbox.advance_back(advanced.rest));
        if !done {
            return Progress::More;
        }
        self.caught_up(now, id);
        Progress::Done
    }

    /// Takes note that all of what was [whole](Engine::single_slice) is written.
    pub fn advance_all(&mut self, now: Now, id: EndpointId) {
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let until = endpoint.until.min(next);
        let completed = until - endpoint.cursor.sequence;
        endpoint.cursor = Cursor::at(until);
        endpoint.upcalls += completed;
        self.counters.upcalls += completed;
        if let Some(native) = endpoint.native_mut() {
            native.prev = until - 1;
        }
        if endpoint.slow.is_none() && endpoint.leaving.is_none() {
            endpoint.delivery = Delivery::CaughtUp;
        } else {
            self.caught_up(now, id);
        }
    }

    /// Everything that was due to an endpoint is written; one that was about to leave leaves.
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

    /// The next datagrams for a text endpoint: no more than `max_count`, and, but for a lone one, than `max_bytes`. None where
    /// nothing is left, which is to be [passed](Engine::advance_run) by 0 all the same.
    pub fn datagram_run(&self, id: EndpointId, max_bytes: usize, max_count: usize) -> Option<Run<'_>> {
        let endpoint = self.registry.get(id).filter(|endpoint| endpoint.delivery == Delivery::Ready)?;
        let ring = self.log.ring(endpoint.rendition());
        let (bytes, count) = match ring.run(&endpoint.reading(self.log.next()), max_bytes, max_count) {
            Some(run) => run,
            None => (endpoint.outbox.as_ref()?.farewell(), 1),
        };
        Some(Run { bytes, count })
    }

    /// Takes note that an endpoint has got `count` more datagrams, or that it cannot get them.
    pub fn advance_run(&mut self, now: Now, id: EndpointId, count: usize, got: bool) -> Progress {
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id) else { return Progress::Done };
        let reading = endpoint.reading(next);
        let until = reading.until;
        let (cursor, passed) = self.log.ring(endpoint.rendition()).pass(&reading, count);
        endpoint.cursor = endpoint.cursor.max(cursor);
        if got {
            endpoint.upcalls += passed as u64;
            self.counters.upcalls += passed as u64;
        } else {
            self.counters.skipped += passed as u64;
        }
        if cursor.sequence < until || (endpoint.outbox.is_some() && passed == count) {
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
        self.record_position(now, id);
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
