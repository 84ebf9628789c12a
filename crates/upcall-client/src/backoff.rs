//! How long to wait before trying again: exponential, with full jitter, so that many clients of a daemon that comes back
//! do not all arrive at once. Pure: no clock, and the randomness is the caller's.

use std::time::Duration;

use fastrand::Rng;

/// The delays between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempts: u32,
}

impl Backoff {
    /// The first delay is at most `base`, each further one at most twice the one before, none more than `cap`.
    pub fn new(base: Duration, cap: Duration) -> Backoff {
        Backoff { base, cap, attempts: 0 }
    }

    /// The next delay: uniform between nothing and what is due by now, in whole milliseconds.
    pub fn next(&mut self, random: &mut Rng) -> Duration {
        let factor = 1u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        let ceiling = self.base.saturating_mul(factor).min(self.cap);
        self.attempts = self.attempts.saturating_add(1);
        Duration::from_millis(random.u64(0..=u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Begins anew: an attempt was a lasting success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;
    use proptest::prelude::*;

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
