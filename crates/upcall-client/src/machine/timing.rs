//! When to say something again: an estimate of the round trip, and what waits for an answer. Pure.

use std::time::{Duration, Instant};

use fastrand::Rng;

/// The timeout before anything is known of the round trip (RFC 8085, section 3.1.1).
const INITIAL: Duration = Duration::from_secs(1);

/// No timeout is shorter: the other side may take its time to answer.
const SHORTEST: Duration = Duration::from_millis(200);

/// No pause is longer: who comes back is to be noticed.
const LONGEST: Duration = Duration::from_secs(4);

/// How long an answer takes (RFC 6298).
#[derive(Debug, Clone, Default)]
pub(super) struct RoundTrip {
    /// The smoothed round trip, and its variation.
    smooth: Option<(Duration, Duration)>,
}

impl RoundTrip {
    /// Takes a measurement of something that was said once only (Karn's algorithm).
    pub(super) fn measured(&mut self, sample: Duration) {
        self.smooth = Some(match self.smooth {
            None => (sample, sample / 2),
            Some((mean, variation)) => ((mean * 7 + sample) / 8, (variation * 3 + mean.abs_diff(sample)) / 4),
        });
    }

    /// How long to wait for an answer to something said for the `tries`th time: doubling, with jitter.
    pub(super) fn timeout(&self, tries: u32, random: &mut Rng) -> Duration {
        let base = self.smooth.map_or(INITIAL, |(mean, variation)| (mean + variation * 4).max(SHORTEST));
        let doubled = base.saturating_mul(1 << tries.saturating_sub(1).min(8)).min(LONGEST);
        doubled + doubled.mul_f64(random.f64() / 4.0)
    }
}

/// Something that is said until it is answered: once on a stream, again and again over datagrams.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempt {
    tries: u32,
    first: Option<Instant>,
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Attempt {
    /// Whether it is to be said now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.last.is_none() || self.due.is_some_and(|due| due <= now)
    }

    /// It has been said; `timeout`: when to do so again.
    pub(super) fn said(&mut self, now: Instant, timeout: impl FnOnce(u32) -> Option<Duration>) {
        self.tries = self.tries.saturating_add(1);
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.due = timeout(self.tries).map(|timeout| now + timeout);
    }

    /// When to say it again, where that is known.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// How often it has been said.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    /// When it was said first.
    pub(super) fn since(&self) -> Option<Instant> {
        self.first
    }

    /// It has been answered: how long that took, where there is no doubt about it.
    pub(super) fn sample(&self, now: Instant) -> Option<Duration> {
        (self.tries == 1).then_some(self.last?).map(|said| now.saturating_duration_since(said))
    }

    /// How long the answer took at most.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        self.first.map_or(Duration::ZERO, |first| now.saturating_duration_since(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_follow_the_round_trip_and_double() {
        let (mut round_trip, mut random) = (RoundTrip::default(), Rng::with_seed(1));
        let within = |timeout: Duration, base: Duration| timeout >= base && timeout <= base + base / 4;
        assert!(within(round_trip.timeout(1, &mut random), INITIAL));
        for _ in 0..50 {
            round_trip.measured(Duration::from_millis(1));
        }
        assert!(within(round_trip.timeout(1, &mut random), SHORTEST));
        assert!(within(round_trip.timeout(3, &mut random), SHORTEST * 4));
        assert!(within(round_trip.timeout(u32::MAX, &mut random), LONGEST));
        round_trip.measured(Duration::from_secs(3));
        assert!(round_trip.timeout(1, &mut random) > Duration::from_secs(1));
    }

    #[test]
    fn only_what_was_said_once_is_measured() {
        let (mut attempt, now) = (Attempt::default(), Instant::now());
        assert!(attempt.is_due(now));
        attempt.said(now, |_| Some(SHORTEST));
        assert!(!attempt.is_due(now) && attempt.is_due(now + SHORTEST));
        assert_eq!(attempt.sample(now + INITIAL), Some(INITIAL));
        attempt.said(now + SHORTEST, |_| None);
        assert_eq!((attempt.sample(now + INITIAL), attempt.elapsed(now + INITIAL)), (None, INITIAL));
    }
}
