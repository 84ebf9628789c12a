//! Loss recovery for the datagrams that one endpoint must acknowledge: which have arrived, which are lost and must be
//! sent again, how many may be in flight, and when to stop waiting. This module knows neither contents nor endpoints.
//!
//! This is RFC 9002 (loss detection and congestion control of QUIC), counted in datagrams instead of bytes, with
//! acknowledgments that are never delayed on purpose, and with three more conservative rules (RFC 8085 section 3.1):
//!
//! - The reordering threshold counts acknowledged datagrams instead of numbers, because numbers that
//!   [`Recovery::unsent`] withdrew say nothing about the network.
//! - A timeout counts as a loss: what has been in flight longest is sent again, and the window is halved, as the
//!   acknowledgment that confirms such a loss would do in QUIC. A second timeout in a row is persistent congestion,
//!   even before the first measured round trip.
//! - A timeout is at least 200 ms, because the client's process may not be scheduled for a while.
//!
//! Every transmission has a number of its own, so an acknowledgment is never ambiguous. A content that is sent again
//! moves to the new number and the old one is forgotten: only the new number can acknowledge it then, and only once.

mod round_trip;
mod window;

use std::collections::VecDeque;

use upcall_wire::frame::Ack;

use crate::time::Time;
use round_trip::RoundTrip;
use window::Window;

/// A datagram is lost once this many later ones are acknowledged (RFC 9002 section 6.1.1).
const REORDERING: u8 = 3;

/// This many timeouts in a row are persistent congestion. They take 1 + 2 = 3 times the first timeout, the duration
/// that RFC 9002 section 7.6.1 requires.
const PERSISTENT: u32 = 2;

/// For how many datagrams memory is kept while none is in flight.
const KEPT: usize = 8;

/// The result of a search for losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Nothing,
    Loss,
    /// A loss that halved the window.
    Congestion,
}

/// The content of one datagram, in flight or lost.
#[derive(Debug)]
struct Transmission<C> {
    /// The number that it was sent with. It is 0 if the socket did not accept it, because no ACK can name 0.
    number: u64,
    /// The number of its first transmission: its place in the order.
    first: u64,
    /// When it was sent.
    at: Time,
    /// How many later datagrams were acknowledged while it was not.
    overtaken: u8,
    content: C,
}

/// The datagrams that one endpoint must acknowledge, generic over what they carry.
///
/// The caller sends while [`Recovery::has_room`]: what [`Recovery::resend`] returns first, then new content, which it
/// reports with [`Recovery::sent`]. It calls [`Recovery::expire`] when [`Recovery::deadline`] is over.
#[derive(Debug)]
pub(crate) struct Recovery<C> {
    /// In flight, as far as is known. Ordered by number, which is also the order of time.
    outstanding: VecDeque<Transmission<C>>,
    /// Waiting to be sent again, by their first number.
    lost: VecDeque<Transmission<C>>,
    /// The last number that was used.
    last: u64,
    window: Window,
    round_trip: Option<RoundTrip>,
    /// Timeouts since the last progress.
    timeouts: u32,
    /// One datagram may be sent beyond the window, after a timeout.
    probe: bool,
    /// The next timeout. Always set while something is unacknowledged.
    timer: Option<Time>,
    jitter: fastrand::Rng,
}

impl<C> Recovery<C> {
    /// Starts with nothing sent or measured. The same seed gives the same jitter.
    pub(crate) fn new(seed: u64) -> Recovery<C> {
        Recovery {
            outstanding: VecDeque::new(),
            lost: VecDeque::new(),
            last: 0,
            window: Window::new(),
            round_trip: None,
            timeouts: 0,
            probe: false,
            timer: None,
            jitter: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whether one more datagram may be sent, with new content or again.
    pub(crate) fn has_room(&self) -> bool {
        self.outstanding.len() < self.window.size() || self.probe
    }

    /// Records a datagram with new content. Returns its number (1, 2, 3 …, none of them twice).
    pub(crate) fn sent(&mut self, now: Time, content: C) -> u64 {
        let number = self.last + 1;
        self.transmit(Transmission { number, first: number, at: now, overtaken: 0, content });
        number
    }

    /// Takes the lost content with the earliest first transmission, to send it again. Returns its new number and the
    /// content; `None` if nothing is lost.
    pub(crate) fn resend(&mut self, now: Time) -> Option<(u64, &C)> {
        let lost = self.lost.pop_front()?;
        let number = self.last + 1;
        self.transmit(Transmission { number, at: now, overtaken: 0, ..lost });
        self.outstanding.back().map(|transmission| (number, &transmission.content))
    }

    /// The socket did not accept this number after all. Its content must be sent again, but this is no sign of
    /// congestion. The number is not used again.
    pub(crate) fn unsent(&mut self, number: u64) {
        let Ok(index) = self.outstanding.binary_search_by_key(&number, |transmission| transmission.number) else {
            return;
        };
        if let Some(transmission) = self.outstanding.remove(index) {
            self.lose(Transmission { number: 0, ..transmission });
            // It may have been sent beyond the window, after a timeout.
            self.probe |= self.outstanding.len() >= self.window.size();
        }
    }

    /// This number was not sent, and its content never will be. Returns the content.
    pub(crate) fn take_back(&mut self, number: u64) -> Option<C> {
        let index = self.outstanding.binary_search_by_key(&number, |transmission| transmission.number).ok()?;
        self.outstanding.remove(index).map(|transmission| transmission.content)
    }

    /// Handles an ACK. Calls `arrived` with each content that is acknowledged for the first time, and returns whether
    /// there was any. An ACK that names a number that was never used is ignored.
    pub(crate) fn acked(&mut self, now: Time, ack: &Ack, mut arrived: impl FnMut(C)) -> bool {
        if !self.is_plausible(ack) {
            return false;
        }
        // Only the largest number measures the round trip: another ACK, which was lost, may have acknowledged any other
        // before (section 5.1).
        let sampled = self.outstanding.iter().chain(&self.lost).find(|transmission| transmission.number == ack.largest);
        let sample = sampled.map(|transmission| now.since(transmission.at));
        let mut overtaking = 0u8;
        for transmission in self.outstanding.iter_mut().rev() {
            if ack.contains(transmission.number) {
                overtaking = overtaking.saturating_add(1);
            } else {
                transmission.overtaken = transmission.overtaken.saturating_add(overtaking);
            }
        }
        let (mut new, mut growth) = (false, 0);
        for (queue, lost) in [(&mut self.outstanding, false), (&mut self.lost, true)] {
            // Rotates the queue once, so that the order stays.
            for _ in 0..queue.len() {
                let Some(transmission) = queue.pop_front() else { break };
                if !ack.contains(transmission.number) {
                    queue.push_back(transmission);
                    continue;
                }
                growth += usize::from(!lost && self.window.grows_by(transmission.number));
                arrived(transmission.content);
                new = true;
            }
        }
        if !new {
            return false;
        }
        if let Some(sample) = sample {
            self.round_trip = Some(RoundTrip::sampled(self.round_trip, sample));
        }
        (self.timeouts, self.probe) = (0, false);
        if self.find_lost(now) != Found::Congestion {
            (0..growth).for_each(|_| self.window.grow());
        }
        self.arm(now);
        if self.is_idle() {
            self.outstanding.shrink_to(KEPT);
            self.lost.shrink_to(0);
        }
        true
    }

    /// Whether something must be sent again.
    #[cfg(test)]
    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Everything that is not acknowledged, in no particular order.
    pub(crate) fn unacknowledged(&self) -> impl Iterator<Item = &C> {
        self.outstanding.iter().chain(&self.lost).map(|transmission| &transmission.content)
    }

    /// Whether everything is acknowledged.
    pub(crate) fn is_idle(&self) -> bool {
        self.outstanding.is_empty() && self.lost.is_empty()
    }

    /// Forgets everything that is unacknowledged. The measurements of the network stay, and so does the length of the
    /// next timeout.
    pub(crate) fn clear(&mut self) {
        (self.outstanding, self.lost) = (VecDeque::new(), VecDeque::new());
        (self.timer, self.probe) = (None, false);
    }

    /// When to call [`Recovery::expire`], if nothing else happens. Never `None` while something is unacknowledged.
    pub(crate) fn deadline(&self) -> Option<Time> {
        // An expected loss comes before the timeout (RFC 9002 section 6.2.1).
        self.loss_expected().or(self.timer)
    }

    /// Does one step of what is due by `now`, and only one, however late it is. There may be something to
    /// [`Recovery::resend`] afterwards. The next deadline counts from `now`.
    pub(crate) fn expire(&mut self, now: Time) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        // If nothing is in flight, this only reminds the caller that something can be sent.
        if self.find_lost(now) == Found::Nothing
            && let Some(oldest) = self.outstanding.pop_front()
        {
            self.timeouts = self.timeouts.saturating_add(1);
            if self.timeouts < PERSISTENT {
                self.window.lost(oldest.number, self.last);
            } else {
                self.window.collapse(self.last);
            }
            self.lose(oldest);
            self.probe = true;
        }
        self.arm(now);
    }

    /// How many datagrams are in flight, as far as is known.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.outstanding.len()
    }

    /// Puts a transmission in flight.
    fn transmit(&mut self, transmission: Transmission<C>) {
        let now = transmission.at;
        self.last = transmission.number;
        self.outstanding.push_back(transmission);
        self.probe = false;
        self.window.sent(self.last, self.outstanding.len());
        self.arm(now);
    }

    /// Whether all the numbers that it names have been used.
    fn is_plausible(&self, ack: &Ack) -> bool {
        // Bit i names the number `largest` − 1 − i, which must be at least 1.
        (1..=self.last).contains(&ack.largest) && (ack.largest > 64 || ack.bitmap >> (ack.largest - 1) == 0)
    }

    /// When the oldest one counts as lost because a later one has arrived (RFC 9002 section 6.1.2).
    fn loss_expected(&self) -> Option<Time> {
        let oldest = self.outstanding.front().filter(|oldest| oldest.overtaken > 0)?;
        Some(oldest.at + self.round_trip?.loss_delay())
    }

    /// Moves what is lost because later ones have arrived. A datagram is never overtaken by more than one sent before
    /// it, so the first that is not lost ends the search.
    fn find_lost(&mut self, now: Time) -> Found {
        let mut found = Found::Nothing;
        while let Some(oldest) = self.outstanding.front()
            && (oldest.overtaken >= REORDERING || self.loss_expected().is_some_and(|time| time <= now))
            && let Some(oldest) = self.outstanding.pop_front()
        {
            let halved = self.window.lost(oldest.number, self.last);
            self.lose(oldest);
            found = found.max(if halved { Found::Congestion } else { Found::Loss });
        }
        found
    }

    /// Enters a transmission among the lost ones.
    fn lose(&mut self, transmission: Transmission<C>) {
        let place = self.lost.partition_point(|other| other.first < transmission.first);
        self.lost.insert(place, transmission);
    }

    /// Restarts the timer, if something is unacknowledged (RFC 9002 section 6.2.1).
    fn arm(&mut self, now: Time) {
        let is_idle = self.is_idle();
        let timeout = || round_trip::timeout(self.round_trip, self.timeouts, &mut self.jitter);
        self.timer = (!is_idle).then(timeout).map(|timeout| now + timeout);
    }
}

#[cfg(test)]
mod network_tests;
#[cfg(test)]
mod tests;
