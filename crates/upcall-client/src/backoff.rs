//! Delays between attempts to connect: exponential with full jitter, so that the clients of a restarted daemon do not
//! all connect at once.
//!
//! [`Client`](crate::Client) uses it to reconnect. It is public for programs that drive their own sockets, and may
//! change between minor versions. It has no clock, and the caller provides the random numbers.

use std::time::Duration;

use fastrand::Rng;

/// A sequence of delays between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempts: u32,
}

impl Backoff {
    /// Creates a sequence whose first delay is at most `base`. The maximum doubles after each delay, up to `cap`.
    pub fn new(base: Duration, cap: Duration) -> Backoff {
        Backoff { base, cap, attempts: 0 }
    }

    /// Returns the next delay: a uniformly distributed random time from zero to the current maximum, in whole
    /// milliseconds.
    pub fn next(&mut self, random: &mut Rng) -> Duration {
        let factor = 1u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        let ceiling = self.base.saturating_mul(factor).min(self.cap);
        self.attempts = self.attempts.saturating_add(1);
        Duration::from_millis(random.u64(0..=u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Starts again with `base`. Call this after a connection that lasted.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use proptest::prelude::*;

    use super::*;

    const BASE: Duration = Duration::from_millis(500);
    const CAP: Duration = Duration::from_secs(30);

    proptest! {
        #[test]
        fn delays_stay_under_a_doubling_ceiling(seed: u64, attempts in 0..100u32) {
            let mut random = Rng::with_seed(seed);
            let mut backoff = Backoff::new(BASE, CAP);
            for attempt in 0..attempts {
                let ceiling = if attempt < 6 { BASE * 2u32.pow(attempt) } else { CAP };
                prop_assert!(backoff.next(&mut random) <= ceiling);
            }
            backoff.reset();
            prop_assert!(backoff.next(&mut random) <= BASE);
        }
    }

    #[test]
    fn delays_are_spread_over_the_whole_range() {
        let mut random = Rng::with_seed(1);
        let first = std::iter::repeat_with(|| Backoff::new(BASE, CAP).next(&mut random)).take(1_000);
        let (low, high): (Vec<_>, Vec<_>) = first.partition(|delay| *delay < BASE / 2);
        assert!(low.len() > 400 && high.len() > 400, "{} {}", low.len(), high.len());
    }
}
