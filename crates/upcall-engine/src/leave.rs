//! How endpoints leave: in peace, with everything that was due to them; cut off, with a farewell; or lost.

use crate::id::{EndpointId, PeerSource};
use crate::log::reading::Cursor;
use crate::log::{Log, Rendition};
use crate::registry::endpoint::{Delivery, Endpoint, Protocol};
use crate::session::DetachedLimits;
use crate::{Deadline, Engine, Event, Now, Policy};
use upcall_wire::frame::{Frame, Gap, GapReason, UPCALL_OVERHEAD, Upcall};
use upcall_wire::reason::{Reason, farewell};

impl Engine {
    /// Lets an endpoint leave: it gets what is due to it until now, a farewell if the reason is the daemon's, and is then
    /// removed. It is not heard any more. One that does not read it all in time is removed all the same, unless the
    /// client itself has ended its side: then there is no hurry.
    pub fn leave(&mut self, now: Now, id: EndpointId, reason: Reason) {
        self.finish_message(id);
        self.end_detection(id);
        let (next, broadcast) = (self.log.next(), self.broadcast);
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        if endpoint.delivery == Delivery::WriteClosed {
            return self.remove(now, id, Reason::Reset, false);
        }
        if endpoint.leaving.is_some_and(|earlier| earlier != Reason::Closed || !reason.is_announced()) {
            return;
        }
        if endpoint.is_waiting() {
            // This turn's inputs are due to it, if it is one of those who get them.
            let first = broadcast.filter(|_| endpoint.receives).unwrap_or(next);
            endpoint.cursor = endpoint.cursor.max(Cursor::at(first));
            endpoint.delivery = Delivery::Ready;
            self.ready.push(id);
        }
        if endpoint.leaving.replace(reason).is_none() && endpoint.receives {
            endpoint.until = next;
        }
        let ended = endpoint.native().is_some_and(|native| native.ended);
        if reason.is_announced() || endpoint.is_native() {
            let bytes = farewell_after(&self.log, endpoint, endpoint.until, reason);
            endpoint.outbox.get_or_insert_default().set_farewell(bytes);
        }
        if reason.is_announced() || ended {
            self.deadlines.insert((now.time + self.settings.farewell, id, Deadline::Farewell));
        }
        self.registry.stop_receiving(id);
        self.tidy_detection();
    }

    /// Removes an endpoint whose connection is gone.
    pub fn connection_lost(&mut self, now: Now, id: EndpointId, reason: Reason) {
        self.clear_lag(now, id);
        self.remove(now, id, reason, false);
    }

    /// Nothing can be written to an endpoint any more. What it sent before may still be read, until the driver
    /// lets it [leave](Engine::leave).
    pub fn close_writes(&mut self, now: Now, id: EndpointId) {
        self.clear_lag(now, id);
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        endpoint.delivery = Delivery::WriteClosed;
        endpoint.outbox = None;
        if endpoint.leaving.is_some() {
            self.remove(now, id, Reason::Reset, false);
        } else {
            self.registry.stop_receiving(id);
        }
    }

    /// Acts on an endpoint that is too far behind: it gets no more of the log than the rest of the record that it is in,
    /// and leaves, or goes on behind a gap.
    pub(crate) fn apply_policy(&mut self, now: Now, id: EndpointId) {
        let Some(endpoint) = self.registry.get(id) else { return };
        match endpoint.native() {
            Some(_) if self.settings.policy == Policy::Skip && endpoint.leaving.is_none() => self.skip(now, id),
            None if endpoint.transport.is_datagram() => self.skip_datagrams(now, id),
            _ => self.disconnect(now, id),
        }
    }

    fn disconnect(&mut self, now: Now, id: EndpointId) {
        self.clear_lag(now, id);
        self.finish_message(id);
        self.end_detection(id);
        if !self.keep_rest_of_record(id) {
            return self.remove(now, id, Reason::SlowConsumer, false);
        }
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        endpoint.until = endpoint.cursor.sequence;
        let given_up = endpoint.acknowledged_mut().map(|acknowledged| acknowledged.give_up()).is_some();
        let bytes = farewell_after(&self.log, endpoint, endpoint.until, Reason::SlowConsumer);
        endpoint.outbox.get_or_insert_default().set_farewell(bytes);
        let earlier = endpoint.leaving.replace(Reason::SlowConsumer);
        if given_up {
            // Nothing will be acknowledged any more that it could wait for.
            self.resume_sending(id);
        }
        if !earlier.is_some_and(Reason::is_announced) {
            self.deadlines.insert((now.time + self.settings.farewell, id, Deadline::Farewell));
        }
        self.registry.stop_receiving(id);
        self.tidy_detection();
    }

    /// Keeps the rest of the record that an endpoint is inside of, which the log need not hold for it any longer; says whether
    /// that was possible.
    pub(crate) fn keep_rest_of_record(&mut self, id: EndpointId) -> bool {
        let Some(endpoint) = self.registry.get_mut(id) else { return false };
        let Cursor { sequence, offset } = endpoint.cursor;
        if offset == 0 {
            return true;
        }
        let (offset, rendition) = (offset as usize, endpoint.rendition());
        let (cap, is_frame) = (self.log.size() / 8, rendition == Rendition::Frames);
        let payload = self.log.ring(rendition).payload(sequence);
        let record = payload.and_then(|payload| self.displaced.keep(sequence, is_frame, payload, cap));
        let Some(record) = record else { return false };
        let mut head = Vec::new();
        if let Some(native) = endpoint.native_mut() {
            // All who are inside the record share what follows its header; the header is each one's own.
            head.extend_from_slice(&record[..UPCALL_OVERHEAD]);
            Upcall::patch_prev(&mut head, native.prev);
            head.drain(..offset.min(UPCALL_OVERHEAD));
            native.prev = sequence;
        }
        let from = if head.is_empty() { offset } else { UPCALL_OVERHEAD };
        endpoint.outbox.get_or_insert_default().finish(head, record, from);
        endpoint.cursor = Cursor::at(sequence + 1);
        endpoint.upcalls += 1;
        self.counters.upcalls += 1;
        true
    }

    /// A native endpoint that fell too far behind misses what it has not got, and is told exactly what that is.
    fn skip(&mut self, now: Now, id: EndpointId) {
        if !self.keep_rest_of_record(id) {
            return self.disconnect(now, id);
        }
        self.clear_lag(now, id);
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        endpoint.cursor = Cursor::at(next);
        let Some(native) = endpoint.native_mut() else { return };
        let first = match &mut native.acknowledged {
            Some(acknowledged) => acknowledged.give_up().unwrap_or(native.prev + 1),
            None => native.prev + 1,
        };
        if first >= next {
            return;
        }
        native.prev = next - 1;
        let gap = Gap { first, last: next - 1, reason: GapReason::SlowConsumer };
        self.counters.gaps += 1;
        match &mut native.acknowledged {
            Some(acknowledged) => acknowledged.announce(gap),
            None => endpoint.outbox.get_or_insert_default().control(&Frame::Gap(gap)),
        }
        match endpoint.delivery {
            // Nothing will be acknowledged any more that it could wait for.
            Delivery::Blocked if endpoint.transport.is_datagram() => self.resume_sending(id),
            Delivery::Blocked => self.record_position(now, id),
            Delivery::CaughtUp | Delivery::Unacknowledged => self.make_ready(id),
            _ => {}
        }
    }

    /// A text datagram endpoint that took nothing for too long misses what it has not got: it was promised best effort.
    fn skip_datagrams(&mut self, now: Now, id: EndpointId) {
        self.clear_lag(now, id);
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let reading = endpoint.reading(next);
        let (cursor, missed) = self.log.ring(endpoint.rendition()).pass(&reading, usize::MAX);
        self.counters.skipped += missed as u64;
        endpoint.cursor = cursor;
        // One that is about to be written to is so once only, and then found to have nothing left.
        if endpoint.outbox.is_none() && endpoint.delivery != Delivery::Ready {
            self.caught_up(now, id);
        }
    }

    pub(crate) fn farewell_is_over(&mut self, now: Now, id: EndpointId) {
        if let Some(reason) = self.registry.get(id).and_then(|endpoint| endpoint.leaving) {
            self.connection_lost(now, id, reason);
        }
    }

    pub(crate) fn remove(&mut self, now: Now, id: EndpointId, reason: Reason, complete: bool) {
        self.finish_message(id);
        self.disarm_recovery(id);
        let Some(mut endpoint) = self.registry.remove(id) else { return };
        self.tidy_detection();
        self.leases.remove(id);
        if let Some(acknowledged) = endpoint.acknowledged_mut() {
            self.keys.remove(&acknowledged.welcome().key);
        }
        let (number, first_unsent) = (endpoint.number, endpoint.first_unsent());
        if let Some(native) = endpoint.native_mut()
            && self.sessions.leave(number, id)
            && !native.ended
        {
            let mut session = std::mem::take(&mut native.session);
            session.sent = session.sent.max(first_unsent);
            let room = DetachedLimits {
                all: self.settings.max_endpoints,
                per_source: native.max_sessions.unwrap_or(usize::MAX),
            };
            let from = (endpoint.listener, PeerSource::of(endpoint.peer));
            self.sessions.detach(now.time + self.settings.session_ttl, session, from, room);
        }
        self.counters.left[reason as usize] += 1;
        self.events.push_back(Event::Left { endpoint: Box::new(endpoint), reason, complete });
    }
}

/// The farewell to an endpoint that got, or is getting, what comes before sequence `until`. As text it is a line of its own,
/// also behind an upcall that did not end in a newline.
fn farewell_after(log: &Log, endpoint: &Endpoint, until: u64, reason: Reason) -> Vec<u8> {
    if matches!(endpoint.protocol, Protocol::AwaitingHello | Protocol::Native) {
        return Frame::Bye(reason.name()).to_vec();
    }
    let last = until - 1;
    let got_some = endpoint.upcalls > 0 || endpoint.cursor < Cursor::at(until);
    let text = log.ring(Rendition::Text);
    let open = got_some
        && !endpoint.transport.is_datagram()
        && last >= text.oldest()
        && text.payload(last).is_some_and(|payload| !payload.ends_with(b"\n"));
    let line = farewell(reason.name());
    if open { format!("\n{line}") } else { line }.into_bytes()
}
