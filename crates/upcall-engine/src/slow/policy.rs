//! The slow policy: what happens to endpoints that are too far behind, and which records must make room.

use upcall_wire::frame::{Frame, Gap, GapReason, UPCALL_OVERHEAD, Upcall};
use upcall_wire::reason::Reason;

use super::{Lag, Parking};
use crate::deadlines::Deadline;
use crate::id::EndpointId;
use crate::leave::farewell_after;
use crate::log::reading::Cursor;
use crate::log::{Oldest, Rendition};
use crate::registry::endpoint::Delivery;
use crate::{Engine, Now, Policy};

impl Engine {
    /// Holds inputs for endpoints that have fallen too far behind, and applies the policy to those for which inputs are
    /// not held.
    pub(crate) fn act_on_laggards(&mut self, now: Now) {
        while let Some((position, id)) = self.laggards.furthest_behind()
            && (self.log.head() - position > self.settings.max_behind / 2 || self.is_in_danger(id))
        {
            self.hold_inputs_for(now.time, id);
        }
        let (head, max_behind) = (self.log.head(), self.settings.max_behind);
        let too_far = self.laggards.unprotected().take_while(|(position, _)| head - position > max_behind);
        for id in too_far.map(|(_, id)| id).collect::<Vec<_>>() {
            self.apply_policy(now, id);
        }
        // While inputs are held for one endpoint only, its own inputs are still accepted. They may put it further
        // behind, but it is not disconnected for what arrived before the hold.
        if let Some(id) = self.laggards.only_holding()
            && let Some(slow) = self.registry.get(id).and_then(|endpoint| endpoint.slow.as_ref())
            && slow.parking == Parking::Idle
            && self.log.head() - slow.position() > self.settings.max_behind.max(slow.distance())
        {
            self.apply_policy(now, id);
        }
    }

    /// Acts on an endpoint that is too far behind: it receives no more of the log than the rest of the record that is
    /// partly written, and leaves, or continues after a gap.
    pub(crate) fn apply_policy(&mut self, now: Now, id: EndpointId) {
        let Some(endpoint) = self.registry.get(id) else { return };
        match endpoint.native() {
            Some(_) if self.settings.policy == Policy::Skip && endpoint.leaving.is_none() => self.skip(now, id),
            None if endpoint.transport.is_datagram() => self.skip_datagrams(now, id),
            _ => self.disconnect(now, id),
        }
    }

    /// Ends a connection for slowness, with a farewell if the record that is partly written can be finished.
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
            // No acknowledgment that would make it ready will arrive any more.
            self.resume_sending(id);
        }
        if !earlier.is_some_and(Reason::is_announced) {
            self.deadlines.set(now.time + self.settings.farewell, id, Deadline::Farewell);
        }
        self.registry.stop_receiving(id);
        self.tidy_detection();
    }

    /// A native endpoint skips what it has not received, and a GAP announces exactly which sequences these are.
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
            None => endpoint.outbox.get_or_insert_default().push_control(&Frame::Gap(gap)),
        }
        match endpoint.delivery {
            // No acknowledgment that would make it ready will arrive any more.
            Delivery::Blocked if endpoint.transport.is_datagram() => self.resume_sending(id),
            Delivery::Blocked => self.record_position(now, id),
            Delivery::CaughtUp | Delivery::Unacknowledged => self.make_ready(id),
            _ => {}
        }
    }

    /// A text datagram endpoint skips what it has not received, because delivery to it is best effort.
    fn skip_datagrams(&mut self, now: Now, id: EndpointId) {
        self.clear_lag(now, id);
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let reading = endpoint.reading(next);
        let (cursor, skipped) = self.log.ring(endpoint.rendition()).pass(&reading, usize::MAX);
        self.counters.skipped += skipped as u64;
        endpoint.cursor = cursor;
        // An endpoint in the ready list must stay ready, so that it is in the list once only. It will have nothing left
        // to send.
        if endpoint.outbox.is_none() && endpoint.delivery != Delivery::Ready {
            self.caught_up(now, id);
        }
    }

    /// Keeps the rest of the record that is partly written to an endpoint, so that the log need not hold it any longer.
    /// Returns whether that was possible.
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
            // All endpoints to which the record is partly written share what follows its header. The header differs
            // between endpoints.
            head.extend_from_slice(&record[..UPCALL_OVERHEAD]);
            Upcall::patch_prev(&mut head, native.prev);
            head.drain(..offset.min(UPCALL_OVERHEAD));
            native.prev = sequence;
        }
        let from = if head.is_empty() { offset } else { UPCALL_OVERHEAD };
        endpoint.outbox.get_or_insert_default().finish_record(head, record, from);
        endpoint.cursor = Cursor::at(sequence + 1);
        endpoint.upcalls += 1;
        self.counters.upcalls += 1;
        true
    }

    /// Makes room for a record of these sizes: no endpoint may still read what it displaces.
    pub(crate) fn make_room(&mut self, now: Now, frame: usize, text: Option<usize>) {
        if !self.log.needs_page(frame, text) {
            // Nothing is displaced.
            return;
        }
        let oldest = self.log.oldest_after(frame, text);
        while let Some((place, id)) = self.first_undecided()
            && place < oldest.latest()
        {
            self.apply_policy(now, id);
        }
        let floor = self.log.position(Cursor::at(oldest.latest()));
        if self.laggards.furthest().is_none_or(|(position, _)| position >= floor) {
            return;
        }
        let behind = |(_, position, id): (Lag, u64, EndpointId)| (position < floor).then_some(id);
        for id in self.laggards.iter().filter_map(behind).collect::<Vec<_>>() {
            if self.reads_before(id, oldest) {
                self.apply_policy(now, id);
            }
        }
    }

    /// Whether the next input, if it is as large as the largest so far, would overrun what an endpoint still needs.
    /// Only messages that are nearly as large as `max_behind` can do that.
    pub(crate) fn is_in_danger(&self, id: EndpointId) -> bool {
        let (frame, text) = self.turn.largest;
        let text = self.registry.has_text().then_some(text);
        self.log.needs_page(frame, text) && self.reads_before(id, self.log.oldest_after(frame, text))
    }

    /// Whether an endpoint needs something before the sequences `oldest`.
    fn reads_before(&self, id: EndpointId, oldest: Oldest) -> bool {
        let endpoint = self.registry.get(id);
        endpoint.is_some_and(|endpoint| endpoint.floor().sequence < oldest.of(endpoint.rendition()))
    }
}
