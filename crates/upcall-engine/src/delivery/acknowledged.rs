//! Acknowledged delivery over datagrams: what is in flight to one endpoint, and what has to be sent again.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use upcall_wire::frame::datagram;
use upcall_wire::frame::{Ack, Gap, GapReason, Welcome};

use super::outbox::GAP;
use super::recovery::Recovery;
use crate::log::Log;
use crate::log::filters::Filters;
use crate::log::reading::Cursor;
// The endpoint knows this room, and `next_content` knows the endpoint: what is sent next depends on both.
use crate::registry::endpoint::Endpoint;
use crate::time::Time;

/// Upcalls share a datagram up to this size, in bytes, which passes nearly everywhere in one piece (RFC 8085 section 3.2).
pub(super) const SHARED: usize = 1_200;

/// How many mistakes of one endpoint are answered in how much time.
const ANSWERED_MISTAKES: (u32, Duration) = (20, Duration::from_secs(1));

/// The part of a datagram that has to arrive.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// The records from `first` to `last` that are due by `filters`. `prev` was due before them.
    Records {
        first: u64,
        last: u64,
        prev: u64,
        /// Those that were in force for these records.
        filters: Option<Rc<Filters>>,
        count: u64,
        /// Of their frames, in bytes.
        size: usize,
    },
    Gap(Gap),
}

impl Content {
    /// In bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Content::Records { size, .. } => *size,
            Content::Gap(_) => GAP,
        }
    }
}

/// The state of acknowledged delivery to one endpoint.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    welcome: Welcome,
    recovery: Recovery<Content>,
    /// Gaps that have to be announced before anything else.
    gaps: VecDeque<Gap>,
    /// The deadline that is set for its recovery. May be earlier than the true one.
    pub(super) entered: Option<Time>,
    /// Since when mistakes are counted, and how many were answered since.
    mistakes: (Time, u32),
}

impl Acknowledged {
    pub(crate) fn new(welcome: Welcome, seed: u64) -> Acknowledged {
        let (recovery, gaps) = (Recovery::new(seed), VecDeque::new());
        Acknowledged { welcome, recovery, gaps, entered: None, mistakes: (Time(0), 0) }
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

    /// Gives up everything that is in flight. Returns where a gap in its place begins.
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

    /// Queues a gap. One that continues the last gap extends it.
    pub(crate) fn announce(&mut self, gap: Gap) {
        match self.gaps.back_mut() {
            Some(earlier) if earlier.last + 1 == gap.first && earlier.reason == gap.reason => earlier.last = gap.last,
            _ => self.gaps.push_back(gap),
        }
    }

    /// Whether one more mistake of the endpoint is answered. Counts it.
    pub(crate) fn allow_answer_to_mistake(&mut self, now: Time) -> bool {
        let (since, count) = &mut self.mistakes;
        if now.since(*since) >= ANSWERED_MISTAKES.1 {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= ANSWERED_MISTAKES.0
    }

    /// Whether everything was acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        self.gaps.is_empty() && self.recovery.is_idle()
    }

    /// Takes an ACK. Returns how many upcalls it acknowledges; `None` if nothing in it is new.
    pub(super) fn acked(&mut self, now: Time, ack: &Ack) -> Option<u64> {
        let mut upcalls = 0;
        let is_new = self.recovery.acked(now, ack, |content| {
            if let Content::Records { count, .. } = content {
                upcalls += count;
            }
        });
        is_new.then_some(upcalls)
    }

    /// The deadline that was set is over. Returns whether there may be something to send again.
    pub(super) fn expire(&mut self, now: Time) -> bool {
        self.entered = None;
        let is_due = self.deadline().is_some_and(|deadline| deadline <= now);
        if is_due {
            self.recovery.expire(now);
        }
        is_due
    }

    /// When [`Acknowledged::expire`] has to be called.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.recovery.deadline()
    }

    /// The socket did not take datagram `number`.
    pub(super) fn unsent(&mut self, number: u64) {
        self.recovery.unsent(number);
    }

    /// Datagram `number` can never be sent. Returns its content.
    pub(super) fn take_back(&mut self, number: u64) -> Option<Content> {
        self.recovery.take_back(number)
    }
}

/// The content of the next datagram, at most `max` bytes long, and its number: something to send again, or something new.
/// `None` if there is nothing, or no room in the window. Counts new gaps in `gaps`.
pub(super) fn next_content(
    endpoint: &mut Endpoint,
    log: &Log,
    now: Time,
    max: usize,
    gaps: &mut u64,
) -> Option<(u64, Content)> {
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

/// What is due and was never sent, as much as shares a datagram.
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
