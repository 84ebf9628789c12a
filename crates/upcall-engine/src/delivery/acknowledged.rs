//! Acknowledged delivery over datagrams: what is under way to one endpoint, and what has to be sent again.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::delivery::outbox::GAP;
use crate::delivery::recovery::Recovery;
use crate::id::EndpointId;
use crate::log::Log;
use crate::log::filters::Filters;
use crate::log::reading::{Cursor, Reading};
use crate::registry::endpoint::{Delivery, Endpoint};
use crate::{Deadline, Engine, Now, Time};
use upcall_wire::frame::datagram::{self, Envelope};
use upcall_wire::frame::{Ack, Frame, Gap, GapReason, Welcome};

/// Upcalls share a datagram up to so many bytes (RFC 8085, section 3.2: what passes nearly everywhere in one piece).
const SHARED: usize = 1_200;

/// So many mistakes of one endpoint are answered in such a time.
const COMPLAINTS: (u32, Duration) = (20, Duration::from_secs(1));

/// What a datagram carries, that has to arrive.
#[derive(Debug, Clone)]
enum Content {
    /// The records that were due from `first` to `last`, by the filters of then; `prev` was due before them.
    Records {
        first: u64,
        last: u64,
        prev: u64,
        filters: Option<Rc<Filters>>,
        count: u64,
        /// Of their frames, in bytes.
        size: usize,
    },
    Gap(Gap),
}

impl Content {
    fn size(&self) -> usize {
        match self {
            Content::Records { size, .. } => *size,
            Content::Gap(_) => GAP,
        }
    }
}

/// How one endpoint is reached.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    welcome: Welcome,
    recovery: Recovery<Content>,
    /// Gaps that are to be announced before anything else.
    gaps: VecDeque<Gap>,
    /// The deadline that is entered for it; may be earlier than the true one.
    entered: Option<Time>,
    /// Mistakes that were answered, and since when they are counted.
    complaints: (Time, u32),
}

impl Acknowledged {
    pub(crate) fn new(welcome: Welcome, seed: u64) -> Acknowledged {
        Acknowledged {
            welcome,
            recovery: Recovery::new(seed),
            gaps: VecDeque::new(),
            entered: None,
            complaints: (Time(0), 0),
        }
    }

    pub(crate) fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The first sequence of the log that may have to be sent again.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let first = |content: &Content| match content {
            Content::Records { first, .. } => Some(*first),
            Content::Gap(_) => None,
        };
        self.recovery.unacknowledged().filter_map(first).min()
    }

    /// Nothing that is under way is sent again; returns where a gap in its place would begin.
    pub(crate) fn give_up(&mut self) -> Option<u64> {
        let first = |content: &Content| match content {
            Content::Records { prev, .. } => prev + 1,
            Content::Gap(gap) => gap.first,
        };
        let first = self.recovery.unacknowledged().map(first).chain(self.gaps.iter().map(|gap| gap.first)).min();
        self.recovery.clear();
        self.gaps.clear();
        first
    }

    /// A gap is to be announced.
    pub(crate) fn announce(&mut self, gap: Gap) {
        match self.gaps.back_mut() {
            Some(earlier) if earlier.last + 1 == gap.first && earlier.reason == gap.reason => earlier.last = gap.last,
            _ => self.gaps.push_back(gap),
        }
    }

    /// Whether one more mistake is answered.
    pub(crate) fn may_complain(&mut self, now: Time) -> bool {
        let (since, count) = &mut self.complaints;
        if now.since(*since) >= COMPLAINTS.1 {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= COMPLAINTS.0
    }

    fn is_idle(&self) -> bool {
        self.gaps.is_empty() && self.recovery.is_idle()
    }
}

impl Engine {
    /// Writes the next datagram for a native endpoint to `out`, at most `max` bytes long; returns its number, which is 0 if
    /// nothing of it has to arrive. `None`: there is nothing more to send now.
    pub fn next_datagram(&mut self, now: Now, id: EndpointId, max: usize, out: &mut Vec<u8>) -> Option<u64> {
        let number = self.fill_datagram(now, id, max, out);
        match number {
            Some(_) => self.arm_recovery(id),
            None => self.rest(now, id),
        }
        number
    }

    fn fill_datagram(&mut self, now: Now, id: EndpointId, max: usize, out: &mut Vec<u8>) -> Option<u64> {
        let Engine { registry, log, counters, .. } = self;
        let endpoint = registry.get_mut(id).filter(|endpoint| endpoint.delivery == Delivery::Ready)?;
        let content = next_content(endpoint, log, now.time, max, &mut counters.gaps);
        if content.is_none() && endpoint.outbox.as_ref().is_none_or(|outbox| outbox.is_exhausted()) {
            return None;
        }
        let acknowledged = endpoint.acknowledged_mut()?;
        let key = acknowledged.welcome.key;
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
                // The last that it hears of us.
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

    /// A datagram was not sent after all: there was no room for it.
    pub fn datagram_unsent(&mut self, id: EndpointId, number: u64) {
        if let Some(acknowledged) = self.registry.get_mut(id).and_then(|endpoint| endpoint.acknowledged_mut())
            && number != 0
        {
            acknowledged.recovery.unsent(number);
        }
        self.arm_recovery(id);
    }

    /// A datagram is larger than can be sent to this endpoint at all: a gap is announced in its place.
    pub fn datagram_oversize(&mut self, id: EndpointId, number: u64) {
        let Some(acknowledged) = self.registry.get_mut(id).and_then(|endpoint| endpoint.acknowledged_mut()) else {
            return;
        };
        match acknowledged.recovery.take_back(number) {
            Some(Content::Records { last, prev, .. }) => {
                acknowledged.announce(Gap { first: prev + 1, last, reason: GapReason::TooLarge });
                self.counters.gaps += 1;
            }
            // It was what shared the datagram that was too much.
            Some(Content::Gap(gap)) => acknowledged.announce(gap),
            None => {}
        }
        self.arm_recovery(id);
    }

    /// The endpoint whose datagrams carry this key.
    pub fn endpoint_by_key(&self, key: u64) -> Option<EndpointId> {
        self.keys.get(&key).copied()
    }

    /// What an endpoint says has arrived.
    pub(crate) fn acked(&mut self, now: Now, id: EndpointId, ack: &Ack) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let mut upcalls = 0;
        let Some(acknowledged) = endpoint.acknowledged_mut() else { return };
        let is_new = acknowledged.recovery.acked(now.time, ack, |content| {
            if let Content::Records { count, .. } = content {
                upcalls += count;
            }
        });
        endpoint.upcalls += upcalls;
        self.counters.upcalls += upcalls;
        if is_new {
            self.resume_sending(id);
        }
        self.arm_recovery(id);
    }

    /// The timer of an endpoint is due, or was.
    pub(crate) fn recovery_due(&mut self, now: Now, id: EndpointId) {
        let Some(acknowledged) = self.registry.get_mut(id).and_then(|endpoint| endpoint.acknowledged_mut()) else {
            return;
        };
        acknowledged.entered = None;
        if acknowledged.recovery.deadline().is_some_and(|deadline| deadline <= now.time) {
            acknowledged.recovery.expire(now.time);
            self.resume_sending(id);
        }
        self.arm_recovery(id);
    }

    /// There may be something to send again, or room for more, or nothing left to wait for.
    pub(crate) fn resume_sending(&mut self, id: EndpointId) {
        // Since all was sent to one that waits, nothing was due to it: the log may not hold that any more.
        self.make_ready(id);
        self.writable(id);
    }

    /// Nothing can be sent to an endpoint now: it waits for acknowledgements, or for something to be due to it.
    fn rest(&mut self, now: Now, id: EndpointId) {
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id).filter(|e| e.delivery == Delivery::Ready) else { return };
        let all_sent = endpoint.cursor.sequence >= endpoint.until.min(next);
        let is_idle =
            endpoint.native().and_then(|native| native.acknowledged.as_deref()).is_none_or(Acknowledged::is_idle);
        if all_sent && is_idle {
            return self.caught_up(now, id);
        }
        endpoint.delivery = if all_sent { Delivery::Unacknowledged } else { Delivery::Blocked };
        self.record_position(now, id);
    }

    /// Sees to it that the timer of an endpoint goes off.
    fn arm_recovery(&mut self, id: EndpointId) {
        let Some(acknowledged) = self.registry.get_mut(id).and_then(|endpoint| endpoint.acknowledged_mut()) else {
            return;
        };
        if let Some(deadline) = acknowledged.recovery.deadline()
            && acknowledged.entered.is_none_or(|entered| deadline < entered)
        {
            if let Some(earlier) = acknowledged.entered.replace(deadline) {
                self.deadlines.remove(&(earlier, id, Deadline::Recovery));
            }
            self.deadlines.insert((deadline, id, Deadline::Recovery));
        }
    }

    /// A timer that is no longer wanted.
    pub(crate) fn disarm_recovery(&mut self, id: EndpointId) {
        if let Some(acknowledged) = self.registry.get_mut(id).and_then(|endpoint| endpoint.acknowledged_mut())
            && let Some(entered) = acknowledged.entered.take()
        {
            self.deadlines.remove(&(entered, id, Deadline::Recovery));
        }
    }
}

/// What goes into the next datagram: what is to be sent again, or is new; none if there is no room in the window.
fn next_content(endpoint: &mut Endpoint, log: &Log, now: Time, max: usize, gaps: &mut u64) -> Option<(u64, Content)> {
    let acknowledged = endpoint.acknowledged_mut()?;
    if !acknowledged.recovery.has_room() {
        return None;
    }
    if let Some((number, content)) = acknowledged.recovery.resend(now) {
        return Some((number, content.clone()));
    }
    let content = match acknowledged.gaps.pop_front() {
        Some(gap) => Content::Gap(gap),
        None => new_content(endpoint, log, max, gaps)?,
    };
    Some((endpoint.acknowledged_mut()?.recovery.sent(now, content.clone()), content))
}

/// What is due and has not been sent yet, as much as shares a datagram.
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
    // What shares a datagram was judged by the same filters: they are kept with it, to find it again.
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
