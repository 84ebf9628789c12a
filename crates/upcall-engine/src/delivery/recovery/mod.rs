//! What became of the datagrams that one endpoint has to acknowledge: which have arrived, which are lost and have to be
//! sent again, how many may be on their way, and when to stop waiting.
//!
//! This is RFC 9002 (loss detection and congestion control of QUIC) with datagrams for bytes, acknowledgments that are not
//! delayed on purpose, and three deviations, all to the careful side (RFC 8085 section 3.1):
//!
//! - The reordering threshold counts acknowledged datagrams rather than numbers, because numbers that [`Recovery::unsent`]
//!   took back say nothing about the network.
//! - A timeout counts as a loss: what has been out longest is sent again, and the window is halved, as it would be by the
//!   acknowledgment that in QUIC confirms such a loss. A second timeout in a row is persistent congestion, also before the
//!   first measured round trip.
//! - A timeout is at least 200 ms, because a client may be a process that others keep from running.
//!
//! Every transmission has a number of its own, so an acknowledgment is never ambiguous. What is sent again moves to the new
//! number and the old one is forgotten: only the acknowledgment of the new one settles it then, and it is settled once.

mod round_trip;
mod window;

use std::collections::VecDeque;

use crate::time::Time;
use round_trip::RoundTrip;
use upcall_wire::frame::Ack;
use window::Window;

/// So many later datagrams have to be acknowledged before one is lost (RFC 9002 section 6.1.1).
const REORDERING: u8 = 3;

/// So many timeouts in a row are persistent congestion: they take 1 + 2 = 3 times the first one, which is the duration that
/// RFC 9002 section 7.6.1 demands.
const PERSISTENT: u32 = 2;

/// Datagrams for which memory is kept while there are none.
const KEPT: usize = 8;

/// What a search for losses has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Nothing,
    Loss,
    /// A loss because of which the window was halved.
    Congestion,
}

/// One datagram's content, on its way or lost.
#[derive(Debug)]
struct Transmission<C> {
    /// The number that it left with; 0 if it did not leave after all.
    number: u64,
    /// The number of its first transmission: its place in the order.
    first: u64,
    /// When it left.
    at: Time,
    /// How many later ones have been acknowledged while it has not.
    overtaken: u8,
    content: C,
}

/// The datagrams to one endpoint that it has to acknowledge, generic over what they carry.
///
/// Whoever uses it sends while [`Recovery::has_room`]: with [`Recovery::resend`] while that gives something, then new
/// content with [`Recovery::sent`]; and calls [`Recovery::expire`] when [`Recovery::deadline`] has come.
#[derive(Debug)]
pub(crate) struct Recovery<C> {
    /// On their way, as far as is known: by number, which is also by time.
    outstanding: VecDeque<Transmission<C>>,
    /// To be sent again: by their first number.
    lost: VecDeque<Transmission<C>>,
    /// The last number that was used.
    last: u64,
    window: Window,
    round_trip: Option<RoundTrip>,
    /// Timeouts since the last progress.
    timeouts: u32,
    /// One may be sent beyond the window, because of a timeout.
    probe: bool,
    /// When there will be a timeout. Always set while something is unacknowledged.
    timer: Option<Time>,
    jitter: fastrand::Rng,
}

impl<C> Recovery<C> {
    /// Nothing sent, nothing measured. The same seed makes the same jitter.
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

    /// Whether one more datagram may be sent, be it new or again.
    pub(crate) fn has_room(&self) -> bool {
        self.outstanding.len() < self.window.size() || self.probe
    }

    /// A datagram with new content leaves: gives its number (1, 2, 3 …, none of them twice).
    pub(crate) fn sent(&mut self, now: Time, content: C) -> u64 {
        let number = self.last + 1;
        self.depart(Transmission { number, first: number, at: now, overtaken: 0, content });
        number
    }

    /// What was lost first leaves again, first in the order in which it was sent originally: gives its new number, and
    /// what to send. `None` if nothing is lost.
    pub(crate) fn resend(&mut self, now: Time) -> Option<(u64, &C)> {
        let lost = self.lost.pop_front()?;
        let number = self.last + 1;
        self.depart(Transmission { number, at: now, overtaken: 0, ..lost });
        self.outstanding.back().map(|transmission| (number, &transmission.content))
    }

    /// The socket did not take this number after all: its content takes its place among what has to be sent again. That
    /// is no sign of congestion. The number is not used again.
    pub(crate) fn unsent(&mut self, number: u64) {
        let Ok(index) = self.outstanding.binary_search_by_key(&number, |transmission| transmission.number) else {
            return;
        };
        if let Some(transmission) = self.outstanding.remove(index) {
            self.lose(Transmission { number: 0, ..transmission });
            // There was room only because of a timeout.
            self.probe |= self.outstanding.len() >= self.window.size();
        }
    }

    /// This number was not sent, and never will be: its content.
    pub(crate) fn take_back(&mut self, number: u64) -> Option<C> {
        let index = self.outstanding.binary_search_by_key(&number, |transmission| transmission.number).ok()?;
        self.outstanding.remove(index).map(|transmission| transmission.content)
    }

    /// Takes an ACK: hands on what has arrived, once each, and says whether that was anything. An ACK that names a number
    /// which was never used counts for nothing at all.
    pub(crate) fn acked(&mut self, now: Time, ack: &Ack, mut arrived: impl FnMut(C)) -> bool {
        if !self.is_plausible(ack) {
            return false;
        }
        // Anything but the largest number may have been acknowledged before, by an ACK that was lost (section 5.1).
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
            // All around once: the order stays.
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

    /// Whether something has to be sent again.
    #[cfg(test)]
    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// All that is not known to have arrived, in no particular order.
    pub(crate) fn unacknowledged(&self) -> impl Iterator<Item = &C> {
        self.outstanding.iter().chain(&self.lost).map(|transmission| &transmission.content)
    }

    /// Whether all has arrived.
    pub(crate) fn is_idle(&self) -> bool {
        self.outstanding.is_empty() && self.lost.is_empty()
    }

    /// Gives everything up. What was learnt about the network stays, the length of the next timeout included.
    pub(crate) fn clear(&mut self) {
        (self.outstanding, self.lost) = (VecDeque::new(), VecDeque::new());
        (self.timer, self.probe) = (None, false);
    }

    /// When [`Recovery::expire`] has to be called, if nothing else happens: always some time while something is
    /// unacknowledged.
    pub(crate) fn deadline(&self) -> Option<Time> {
        // The timeout has to wait for the loss that is expected (RFC 9002 section 6.2.1).
        self.loss_expected().or(self.timer)
    }

    /// Does what is due by now, one step, however late it is: there may be something to [`Recovery::resend`] then. The next deadline counts
    /// from `now`. Does nothing if nothing is due.
    pub(crate) fn expire(&mut self, now: Time) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        // If nothing is outstanding, this is but a reminder that something can be sent.
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

    /// How many datagrams are on their way, as far as is known.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> usize {
        self.outstanding.len()
    }

    fn depart(&mut self, transmission: Transmission<C>) {
        let now = transmission.at;
        self.last = transmission.number;
        self.outstanding.push_back(transmission);
        self.probe = false;
        self.window.departed(self.last, self.outstanding.len());
        self.arm(now);
    }

    /// Whether all the numbers that it names have been used.
    fn is_plausible(&self, ack: &Ack) -> bool {
        // Bit i names `largest` − 1 − i, which is to be at least 1.
        (1..=self.last).contains(&ack.largest) && (ack.largest > 64 || ack.bitmap >> (ack.largest - 1) == 0)
    }

    /// When the oldest will be lost because a later one has arrived (RFC 9002 section 6.1.2).
    fn loss_expected(&self) -> Option<Time> {
        let oldest = self.outstanding.front().filter(|oldest| oldest.overtaken > 0)?;
        Some(oldest.at + self.round_trip?.loss_delay())
    }

    /// Finds what is lost because later ones have arrived; says whether there was any. A later one is never overtaken
    /// by more than an earlier one, and it left later: the first that is not lost ends the search.
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

    fn lose(&mut self, transmission: Transmission<C>) {
        let place = self.lost.partition_point(|other| other.first < transmission.first);
        self.lost.insert(place, transmission);
    }

    /// Sets the timer anew, if anything is left to wait for (RFC 9002 section 6.2.1).
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
