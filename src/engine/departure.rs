//! How endpoints leave: in peace, with everything that was due to them; cut off, with a farewell; or lost.

use super::log::Log;
use super::outbox::Outbox;
use super::{Cursor, Deadline, Delivery, Endpoint, EndpointId, Engine, Event, Now};
use crate::wire::reason::{Reason, farewell};

impl Engine {
    /// Lets an endpoint leave: it gets what is due to it until now, a farewell if the reason is the daemon's, and is then
    /// removed. It is not heard any more. One that does not read it all in time is removed all the same, unless the
    /// client itself has ended its side: then there is no hurry.
    pub fn leave(&mut self, now: Now, id: EndpointId, reason: Reason) {
        self.finish_message(id);
        let (next, broadcast) = (self.log.next(), self.broadcast);
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        if endpoint.delivery == Delivery::Deaf {
            return self.remove(id, Reason::Reset, false);
        }
        if endpoint.leaving.is_some_and(|earlier| earlier != Reason::Closed || !reason.is_announced()) {
            return;
        }
        if endpoint.delivery == Delivery::CaughtUp {
            // This turn's inputs are due to it, if it is one of those who get them.
            let first = broadcast.filter(|_| endpoint.receives).unwrap_or(next);
            endpoint.cursor = endpoint.cursor.max(Cursor::at(first));
            endpoint.delivery = Delivery::Ready;
            self.ready.push(id);
        }
        if endpoint.leaving.replace(reason).is_none() {
            endpoint.until = next;
        }
        if reason.is_announced() {
            let text = farewell_after(&self.log, endpoint, endpoint.until, reason);
            endpoint.outbox = Some(Box::new(Outbox::new(text)));
            self.deadlines.insert((now.time + self.settings.farewell, id, Deadline::Farewell));
        }
        self.registry.stop_receiving(id);
    }

    /// Removes an endpoint whose connection is gone.
    pub fn lost(&mut self, now: Now, id: EndpointId, reason: Reason) {
        self.stop_lagging(now, id);
        self.remove(id, reason, false);
    }

    /// Nothing can be written to an endpoint any more. What it sent before may still be read, until the driver
    /// lets it [leave](Engine::leave).
    pub fn deafen(&mut self, now: Now, id: EndpointId) {
        self.stop_lagging(now, id);
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        endpoint.delivery = Delivery::Deaf;
        endpoint.outbox = None;
        if endpoint.leaving.is_some() {
            self.remove(id, Reason::Reset, false);
        } else {
            self.registry.stop_receiving(id);
        }
    }

    /// Acts on an endpoint that is too far behind: it gets no more of the log than the rest of the record that it is in.
    pub(super) fn cut(&mut self, now: Now, id: EndpointId) {
        if self.registry.get(id).is_some_and(|endpoint| endpoint.transport.is_datagram()) {
            return self.skip(now, id);
        }
        self.stop_lagging(now, id);
        self.finish_message(id);
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let Cursor { sequence, offset } = endpoint.cursor;
        let last = sequence + u64::from(offset > 0);
        let mut outbox = Outbox::new(farewell_after(&self.log, endpoint, last, Reason::SlowConsumer));
        if offset > 0 {
            let cap = self.log.size() / 8;
            let record = self.log.payload(sequence).and_then(|payload| self.cut_records.keep(sequence, payload, cap));
            let Some(record) = record else { return self.remove(id, Reason::SlowConsumer, false) };
            outbox = outbox.behind(record, offset as usize);
        }
        endpoint.outbox = Some(Box::new(outbox));
        endpoint.cursor = Cursor::at(sequence);
        endpoint.until = sequence;
        if !endpoint.leaving.replace(Reason::SlowConsumer).is_some_and(Reason::is_announced) {
            self.deadlines.insert((now.time + self.settings.farewell, id, Deadline::Farewell));
        }
        self.registry.stop_receiving(id);
    }

    /// A datagram endpoint that took nothing for too long misses what it has not got: it was promised best effort.
    fn skip(&mut self, now: Now, id: EndpointId) {
        self.stop_lagging(now, id);
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let (cursor, missed) = self.log.pass(&endpoint.reading(next), usize::MAX);
        self.counters.skipped += missed as u64;
        endpoint.cursor = cursor;
        if endpoint.outbox.is_none() {
            self.caught_up(now, id);
        }
    }

    pub(super) fn farewell_is_over(&mut self, now: Now, id: EndpointId) {
        if let Some(reason) = self.registry.get(id).and_then(|endpoint| endpoint.leaving) {
            self.lost(now, id, reason);
        }
    }

    pub(super) fn remove(&mut self, id: EndpointId, reason: Reason, complete: bool) {
        self.finish_message(id);
        if let Some(endpoint) = self.registry.remove(id) {
            if let Some(lease) = &endpoint.lease {
                self.leases.remove(&(lease.entered, id));
            }
            self.counters.left[reason as usize] += 1;
            self.events.push_back(Event::Left { endpoint: Box::new(endpoint), reason, complete });
        }
    }
}

/// The farewell to an endpoint that got, or is getting, what comes before sequence `until`. It is a line of its own, also
/// behind an upcall that did not end in a newline.
fn farewell_after(log: &Log, endpoint: &Endpoint, until: u64, reason: Reason) -> String {
    let last = until - 1;
    let got_some = endpoint.upcalls > 0 || endpoint.cursor < Cursor::at(until);
    let open = got_some
        && !endpoint.transport.is_datagram()
        && last >= log.oldest()
        && log.payload(last).is_some_and(|payload| !payload.ends_with(b"\n"));
    let line = farewell(reason.name());
    if open { format!("\n{line}") } else { line }
}
