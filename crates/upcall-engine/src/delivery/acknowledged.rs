//! Acknowledged delivery over datagrams: what is in flight to one endpoint, and what must be sent again.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use upcall_wire::frame::{Ack, Gap, Welcome};

use super::outbox::GAP;
use super::recovery::Recovery;
use crate::log::filters::FilterSet;
use crate::time::Time;

/// How many mistakes of one endpoint are answered, and in which time.
const ANSWERED_MISTAKES: (u32, Duration) = (20, Duration::from_secs(1));

/// The part of a datagram that must arrive.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// The records from `first` to `last` that are due by `filters`. `prev` was due before them.
    Records {
        first: u64,
        last: u64,
        prev: u64,
        /// The filters that were in force for these records.
        filters: Option<Rc<FilterSet>>,
        count: u64,
        /// The size of their frames, in bytes.
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
    /// Gaps that must be announced before anything else.
    gaps: VecDeque<Gap>,
    /// The deadline that is set for its recovery, which may be earlier than the actual one.
    pub(super) entered: Option<Time>,
    /// When the count of mistakes began, and how many mistakes there were since then.
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

    /// The first sequence of the log that may need to be sent again.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let first = |content: &Content| match content {
            Content::Records { first, .. } => Some(*first),
            Content::Gap(_) => None,
        };
        self.recovery.unacknowledged().filter_map(first).min()
    }

    /// Gives up everything that is in flight. Returns the first sequence of the gap that replaces it.
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

    /// Counts a mistake of the endpoint, and returns whether it may be answered.
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

    /// Whether the window has room for one more datagram.
    pub(super) fn has_room(&self) -> bool {
        self.recovery.has_room()
    }

    /// A lost content that must be sent again, with its new number.
    pub(super) fn resend(&mut self, now: Time) -> Option<(u64, Content)> {
        self.recovery.resend(now).map(|(number, content)| (number, content.clone()))
    }

    /// A gap that has not been announced yet.
    pub(super) fn next_gap(&mut self) -> Option<Gap> {
        self.gaps.pop_front()
    }

    /// Records that new content is sent, and returns its number.
    pub(super) fn sent(&mut self, now: Time, content: Content) -> u64 {
        self.recovery.sent(now, content)
    }

    /// Handles an ACK. Returns how many upcalls it acknowledges; `None` if nothing in it is new.
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

    /// When to call [`Acknowledged::expire`].
    pub(super) fn deadline(&self) -> Option<Time> {
        self.recovery.deadline()
    }

    /// The socket did not accept datagram `number`.
    pub(super) fn unsent(&mut self, number: u64) {
        self.recovery.unsent(number);
    }

    /// Datagram `number` can never be sent. Returns its content.
    pub(super) fn take_back(&mut self, number: u64) -> Option<Content> {
        self.recovery.take_back(number)
    }
}
