//! What is written to a stream, and how much of it a write completed.

use super::Progress;
use crate::id::EndpointId;
use crate::log::reading::Cursor;
use crate::log::slices::Slices;
use crate::registry::endpoint::{Delivery, Native};
use crate::{Engine, Event, Now};

/// Frames that cannot be written as they are in the log are copied, at most about this many bytes at a time.
const COPY: usize = 64 * 1024;

impl Engine {
    /// Everything that is due to a stream, if that is one slice of the log, as it nearly always is. Once it is written,
    /// [`Engine::advance_all`] records that.
    pub fn single_slice(&self, id: EndpointId) -> Option<&[u8]> {
        let endpoint = self.registry.ready(id)?;
        let reading = endpoint.reading(self.log.next());
        let precedes = |native: &Native| native.prev + 1 == reading.cursor.sequence && !native.answers_unread;
        if endpoint.outbox.is_some() || !endpoint.native().is_none_or(precedes) {
            return None;
        }
        self.log.ring(endpoint.rendition()).whole(&reading)
    }

    /// What must be written to a stream now. If there is nothing, the driver must still call [`Engine::advance`] with
    /// 0.
    pub fn slices(&mut self, id: EndpointId) -> Slices<'_> {
        let Engine { registry, log, turn, .. } = self;
        let mut slices = Slices::new();
        let Some(endpoint) = registry.ready(id) else { return slices };
        let ring = log.ring(endpoint.rendition());
        let mut reading = endpoint.reading(log.next());
        let outbox = endpoint.outbox.as_deref();
        let front = outbox.filter(|outbox| !outbox.is_front_empty());
        if let Some(outbox) = front {
            if reading.cursor.offset > 0 {
                // A record is partly written: the front follows it.
                reading.until = reading.cursor.sequence + 1;
            } else if !outbox.front(&mut slices) {
                return slices;
            }
        }
        let whole = match endpoint.native().map(|native| native.prev) {
            Some(prev) if ring.is_selective(&reading) || prev + 1 != reading.cursor.sequence => {
                turn.copied.clear();
                let whole = ring.copy(&reading, prev, COPY, &mut turn.copied);
                slices.push(turn.copied.get(reading.cursor.offset as usize..).unwrap_or_default()) && whole
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

    /// Records that `written` bytes of what [`Engine::slices`] returned are written.
    pub fn advance(&mut self, now: Now, id: EndpointId, mut written: usize) -> Progress {
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id) else { return Progress::Done };
        let ring = self.log.ring(endpoint.rendition());
        let inside = endpoint.cursor.offset > 0;
        let front = endpoint.outbox.as_mut().filter(|outbox| !outbox.is_front_empty());
        let follows_record = front.is_some() && inside;
        if let Some(outbox) = front.filter(|_| !inside) {
            written = outbox.advance_front(written);
        }
        let mut reading = endpoint.reading(next);
        let until = reading.until;
        if follows_record {
            reading.until = reading.cursor.sequence + 1;
        }
        let advanced = ring.advance(&reading, written);
        endpoint.cursor = advanced.cursor;
        endpoint.upcalls += advanced.completed;
        self.counters.upcalls += advanced.completed;
        let tag = endpoint.tag;
        let answers_read = endpoint.outbox.as_ref().is_none_or(|outbox| outbox.pending_control() == 0);
        if let Some(native) = endpoint.native_mut() {
            native.prev = native.prev.max(advanced.last);
            if answers_read && std::mem::take(&mut native.answers_unread) {
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

    /// Records that all of what [`Engine::single_slice`] returned is written.
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
}
