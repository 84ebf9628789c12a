//! What is sent to a datagram endpoint. Text endpoints receive one datagram for each upcall. Native endpoints receive
//! numbered datagrams, which several upcalls share and which they acknowledge.

use upcall_wire::frame::datagram::{self, Envelope};
use upcall_wire::frame::{Ack, Frame, Gap, GapReason};

use super::Progress;
use super::acknowledged::{Acknowledged, Content};
use crate::deadlines::Deadline;
use crate::id::EndpointId;
use crate::log::Log;
use crate::log::reading::{Cursor, Reading};
use crate::registry::endpoint::{Delivery, Endpoint};
use crate::{Engine, Now, Time};

/// Upcalls share a datagram up to this size, in bytes, which nearly every path carries in one piece (RFC 8085 section
/// 3.2).
const SHARED: usize = 1_200;

/// Datagrams for one endpoint whose payloads are adjacent in the log: `bytes` is `count` payloads of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<'a> {
    /// The payloads, one after the other.
    pub bytes: &'a [u8],
    /// How many payloads there are, at least 1.
    pub count: usize,
}

/// Text datagrams.
impl Engine {
    /// The next datagrams for a text endpoint: at most `max_count`, and at most `max_bytes` unless it is a single one.
    /// If nothing is left, the driver must still call [`Engine::advance_run`] with 0.
    pub fn datagram_run(&self, id: EndpointId, max_bytes: usize, max_count: usize) -> Option<Run<'_>> {
        let endpoint = self.registry.ready(id)?;
        let ring = self.log.ring(endpoint.rendition());
        let (bytes, count) = match ring.run(&endpoint.reading(self.log.next()), max_bytes, max_count) {
            Some(run) => run,
            None => (endpoint.outbox.as_ref()?.farewell(), 1),
        };
        Some(Run { bytes, count })
    }

    /// Records that `count` more datagrams were sent to an endpoint (`sent`), or that they cannot be.
    pub fn advance_run(&mut self, now: Now, id: EndpointId, count: usize, sent: bool) -> Progress {
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id) else { return Progress::Done };
        let reading = endpoint.reading(next);
        let until = reading.until;
        let (cursor, passed) = self.log.ring(endpoint.rendition()).pass(&reading, count);
        endpoint.cursor = endpoint.cursor.max(cursor);
        if sent {
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
}

/// Native datagrams.
impl Engine {
    /// Appends the next datagram for a native endpoint to `out`, at most `max` bytes long. Returns its number, which is
    /// 0 if nothing in it needs an acknowledgment; `None` if there is nothing more to send now.
    pub fn next_datagram(&mut self, now: Now, id: EndpointId, max: usize, out: &mut Vec<u8>) -> Option<u64> {
        let number = self.fill_datagram(now, id, max, out);
        match number {
            Some(_) => self.arm_recovery(id),
            None => self.pause_sending(now, id),
        }
        number
    }

    fn fill_datagram(&mut self, now: Now, id: EndpointId, max: usize, out: &mut Vec<u8>) -> Option<u64> {
        let Engine { registry, log, counters, .. } = self;
        let endpoint = registry.ready_mut(id)?;
        let content = next_content(endpoint, log, now.time, max, &mut counters.gaps);
        if content.is_none() && endpoint.outbox.as_ref().is_none_or(|outbox| outbox.is_empty()) {
            return None;
        }
        let acknowledged = endpoint.acknowledged_mut()?;
        let key = acknowledged.welcome().key;
        let (number, content) = content.unzip();
        let number = number.unwrap_or(0);
        let start = out.len();
        Envelope { key, number }.write(out);
        let is_idle = acknowledged.is_idle();
        let reader = endpoint.number;
        let (cursor, until) = (endpoint.cursor.sequence, endpoint.until.min(log.next()));
        if let Some(outbox) = &mut endpoint.outbox {
            let size = content.as_ref().map_or(0, Content::size);
            outbox.take_control((SHARED - datagram::OVERHEAD).saturating_sub(size), content.is_none(), out);
            if content.is_none() && is_idle && cursor >= until && out.len() == start + datagram::OVERHEAD {
                // The farewell is the last datagram, and nothing else is in it.
                out.extend_from_slice(outbox.farewell());
                outbox.set_farewell(Vec::new());
            }
        }
        match content {
            Some(Content::Records { first, last, prev, filters, .. }) => {
                let filters = filters.as_deref();
                let cursor = Cursor::at(first);
                let reading = Reading { cursor, until: last + 1, reader, filters, earlier: &[] };
                log.ring(endpoint.rendition()).copy(&reading, prev, usize::MAX, out);
            }
            Some(Content::Gap(gap)) => Frame::Gap(gap).write(out),
            None if out.len() == start + datagram::OVERHEAD => {
                out.truncate(start);
                return None;
            }
            None => {}
        }
        Some(number)
    }

    /// A datagram was not sent after all, because the socket had no room for it.
    pub fn datagram_unsent(&mut self, id: EndpointId, number: u64) {
        if let Some(acknowledged) = self.registry.get_mut(id).and_then(|endpoint| endpoint.acknowledged_mut())
            && number != 0
        {
            acknowledged.unsent(number);
        }
        self.arm_recovery(id);
    }

    /// A datagram is larger than can be sent to this endpoint at all. A gap is announced in its place.
    pub fn datagram_oversize(&mut self, id: EndpointId, number: u64) {
        let Some(acknowledged) = self.registry.get_mut(id).and_then(|endpoint| endpoint.acknowledged_mut()) else {
            return;
        };
        match acknowledged.take_back(number) {
            Some(Content::Records { last, prev, .. }) => {
                acknowledged.announce(Gap { first: prev + 1, last, reason: GapReason::TooLarge });
                self.counters.gaps += 1;
            }
            // The control frames that shared the datagram made it too large.
            Some(Content::Gap(gap)) => acknowledged.announce(gap),
            None => {}
        }
        self.arm_recovery(id);
    }

    /// Handles an ACK of an endpoint.
    pub(crate) fn acked(&mut self, now: Now, id: EndpointId, ack: &Ack) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let Some(acknowledged) = endpoint.acknowledged_mut() else { return };
        let upcalls = acknowledged.acked(now.time, ack);
        endpoint.upcalls += upcalls.unwrap_or(0);
        self.counters.upcalls += upcalls.unwrap_or(0);
        if upcalls.is_some() {
            self.resume_sending(id);
        }
        self.arm_recovery(id);
    }

    /// The recovery deadline that was set for an endpoint is over. The actual deadline may be later.
    pub(crate) fn recovery_due(&mut self, now: Now, id: EndpointId) {
        let Some(acknowledged) = self.registry.get_mut(id).and_then(|endpoint| endpoint.acknowledged_mut()) else {
            return;
        };
        if acknowledged.expire(now.time) {
            self.resume_sending(id);
        }
        self.arm_recovery(id);
    }

    /// There may be something to send again, or room for more, or nothing left to be acknowledged.
    pub(crate) fn resume_sending(&mut self, id: EndpointId) {
        // First treats it like an endpoint that was sent everything, which moves its cursor: nothing was due to it
        // since then, and the log may no longer hold those records.
        self.make_ready(id);
        self.writable(id);
    }

    /// Nothing can be sent to an endpoint until an ACK arrives, or something is due to it.
    fn pause_sending(&mut self, now: Now, id: EndpointId) {
        let next = self.log.next();
        let Some(endpoint) = self.registry.ready_mut(id) else { return };
        let all_sent = endpoint.cursor.sequence >= endpoint.until.min(next);
        let acknowledged = endpoint.native().and_then(|native| native.acknowledged.as_deref());
        if all_sent && acknowledged.is_none_or(Acknowledged::is_idle) {
            return self.caught_up(now, id);
        }
        endpoint.delivery = if all_sent { Delivery::Unacknowledged } else { Delivery::Blocked };
        self.record_position(now, id);
    }

    /// Sets the recovery deadline of an endpoint, if there is none or it has become earlier.
    fn arm_recovery(&mut self, id: EndpointId) {
        let Some(acknowledged) = self.registry.get_mut(id).and_then(|endpoint| endpoint.acknowledged_mut()) else {
            return;
        };
        if let Some(deadline) = acknowledged.deadline()
            && acknowledged.entered.is_none_or(|entered| deadline < entered)
        {
            if let Some(earlier) = acknowledged.entered.replace(deadline) {
                self.deadlines.cancel(earlier, id, Deadline::Recovery);
            }
            self.deadlines.set(deadline, id, Deadline::Recovery);
        }
    }

    /// Cancels the recovery deadline of an endpoint.
    pub(crate) fn disarm_recovery(&mut self, id: EndpointId) {
        if let Some(acknowledged) = self.registry.get_mut(id).and_then(|endpoint| endpoint.acknowledged_mut())
            && let Some(entered) = acknowledged.entered.take()
        {
            self.deadlines.cancel(entered, id, Deadline::Recovery);
        }
    }
}

/// The content of the next datagram, at most `max` bytes long, and its number: something to send again, or something
/// new. `None` if there is nothing, or no room in the window. Counts new gaps in `gaps`.
fn next_content(endpoint: &mut Endpoint, log: &Log, now: Time, max: usize, gaps: &mut u64) -> Option<(u64, Content)> {
    let acknowledged = endpoint.acknowledged_mut()?;
    if !acknowledged.has_room() {
        return None;
    }
    if let Some(again) = acknowledged.resend(now) {
        return Some(again);
    }
    let content = match acknowledged.next_gap() {
        Some(gap) => Content::Gap(gap),
        None => new_content(endpoint, log, max, gaps)?,
    };
    Some((endpoint.acknowledged_mut()?.sent(now, content.clone()), content))
}

/// What is due and was never sent, as much as fits into one shared datagram.
fn new_content(endpoint: &mut Endpoint, log: &Log, max: usize, gaps: &mut u64) -> Option<Content> {
    let next = log.next();
    if endpoint.cursor.sequence >= endpoint.until.min(next) {
        return None;
    }
    let prev = endpoint.native()?.prev;
    let room = max.saturating_sub(datagram::OVERHEAD);
    let shared = SHARED - datagram::OVERHEAD;
    let (mut first, mut last, mut size, mut count) = (None, 0, 0, 0);
    let reading = endpoint.reading(next);
    let ring = log.ring(endpoint.rendition());
    let mut too_large = None;
    let mut seen = reading.until;
    // Records share a datagram only if the same filters were in force for them. The filters are kept with it, so that a
    // retransmission finds the same records.
    let (mut filters, mut end) = (None, u64::MAX);
    for (sequence, frame) in ring.due(&reading) {
        if frame.len() > room && first.is_none() {
            too_large = Some(sequence);
            seen = sequence + 1;
            break;
        }
        if first.is_some() && (size + frame.len() > shared || sequence >= end) {
            seen = sequence;
            break;
        }
        if first.is_none() {
            (filters, end) = endpoint.native()?.session.filters_at(sequence);
            first = Some(sequence);
        }
        (last, size, count) = (sequence, size + frame.len(), count + 1);
    }
    endpoint.cursor = endpoint.cursor.max(Cursor::at(seen));
    let native = endpoint.native_mut()?;
    if let Some(sequence) = too_large {
        native.prev = sequence;
        *gaps += 1;
        return Some(Content::Gap(Gap { first: prev + 1, last: sequence, reason: GapReason::TooLarge }));
    }
    let first = first?;
    native.prev = last;
    Some(Content::Records { first, last, prev, filters, count, size })
}
