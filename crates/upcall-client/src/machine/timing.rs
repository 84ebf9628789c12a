//! When to send something again: the estimate of the round trip, and the attempts to get an answer.

use std::time::{Duration, Instant};

use fastrand::Rng;

/// The timeout before the first sample of the round trip (RFC 8085, section 3.1.1).
const INITIAL: Duration = Duration::from_secs(1);

/// The shortest timeout, which leaves the daemon time to answer.
const SHORTEST: Duration = Duration::from_millis(200);

/// The longest timeout. It is short enough to detect soon that a daemon is reachable again.
const LONGEST: Duration = Duration::from_secs(4);

/// The estimate of the round trip (RFC 6298).
#[derive(Debug, Clone, Default)]
pub(super) struct RoundTrip {
    /// The smoothed round trip and its variation; `None` before the first sample.
    smooth: Option<(Duration, Duration)>,
}

impl RoundTrip {
    /// Adds a sample. Only frames that were sent once give one (Karn's algorithm).
    pub(super) fn add_sample(&mut self, sample: Duration) {
        self.smooth = Some(match self.smooth {
            None => (sample, sample / 2),
            Some((mean, variation)) => ((mean * 7 + sample) / 8, (variation * 3 + mean.abs_diff(sample)) / 4),
        });
    }

    /// How long to wait for an answer after sending for the `tries`th time: doubling, plus up to a quarter of jitter.
    pub(super) fn timeout(&self, tries: u32, random: &mut Rng) -> Duration {
        let base = self.smooth.map_or(INITIAL, |(mean, variation)| (mean + variation * 4).max(SHORTEST));
        let doubled = base.saturating_mul(1 << tries.saturating_sub(1).min(8)).min(LONGEST);
        doubled + doubled.mul_f64(random.f64() / 4.0)
    }
}

/// The attempts to get an answer to one frame, which is sent once on a stream, and repeatedly over datagrams.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempt {
    tries: u32,
    first: Option<Instant>,
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Attempt {
    /// Whether to send now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.last.is_none() || self.due.is_some_and(|due| due <= now)
    }

    /// The frame has been sent. `timeout` computes, from the number of tries, how long to wait before sending again.
    pub(super) fn sent(&mut self, now: Instant, timeout: impl FnOnce(u32) -> Option<Duration>) {
        self.tries = self.tries.saturating_add(1);
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.due = timeout(self.tries).map(|timeout| now + timeout);
    }

    /// When to send again; `None` before the first time, and on streams.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// How often it has been sent.
    pub(super) fn tries(&self) -> u32 {
        self.tries
    }

    /// When it was sent first.
    pub(super) fn since(&self) -> Option<Instant> {
        self.first
    }

    /// The round trip, if the answer comes now and the frame was sent only once.
    pub(super) fn sample(&self, now: Instant) -> Option<Duration> {
        (self.tries == 1).then_some(self.last?).map(|sent| now.saturating_duration_since(sent))
    }

    /// The time since it was sent first.
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
            round_trip.add_sample(Duration::from_millis(1));
        }
        assert!(within(round_trip.timeout(1, &mut random), SHORTEST));
        assert!(within(round_trip.timeout(3, &mut random), SHORTEST * 4));
        assert!(within(round_trip.timeout(u32::MAX, &mut random), LONGEST));
        round_trip.add_sample(Duration::from_secs(3));
        assert!(round_trip.timeout(1, &mut random) > Duration::from_secs(1));
    }

    #[test]
    fn only_a_frame_sent_once_gives_a_sample() {
        let (mut attempt, now) = (Attempt::default(), Instant::now());
        assert!(attempt.is_due(now));
        attempt.sent(now, |_| Some(SHORTEST));
        assert!(!attempt.is_due(now) && attempt.is_due(now + SHORTEST));
        assert_eq!(attempt.sample(now + INITIAL), Some(INITIAL));
        attempt.sent(now + SHORTEST, |_| None);
        assert_eq!((attempt.sample(now + INITIAL), attempt.elapsed(now + INITIAL)), (None, INITIAL));
    }
}
