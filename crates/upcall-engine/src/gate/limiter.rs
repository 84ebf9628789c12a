//! A rate limiter of fixed size: token buckets, which several sources may share.

use crate::time::Time;

/// The number of buckets. Sources with the same bucket share its limit, so sharing only ever limits more.
const BUCKETS: usize = 4096;

/// The tokens used, and the time of that count, in nanoseconds. A tuple of numbers, because zeroed memory of it comes
/// from the system untouched: a page takes memory only once one of its buckets is used.
type Bucket = (f32, u64);

/// Allows each source a number of events per second.
#[derive(Debug)]
pub(crate) struct Limiter {
    buckets: Box<[Bucket]>,
    /// Tokens that are refilled per second.
    rate: f32,
    /// The most tokens that a bucket holds.
    burst: f32,
}

impl Limiter {
    pub(crate) fn new(rate: f32, burst: f32) -> Limiter {
        Limiter { buckets: vec![(0.0, 0); BUCKETS].into_boxed_slice(), rate, burst }
    }

    /// Takes a token of the source with this hash, which must be keyed. Returns whether there was one.
    pub(crate) fn take(&mut self, now: Time, hash: u64) -> bool {
        let bucket: &mut Bucket = &mut self.buckets[(hash % BUCKETS as u64) as usize];
        let (used, at) = (bucket.0, Time(bucket.1));
        let refilled = now.since(at).as_secs_f32() * self.rate;
        let used = (used - refilled).max(0.0);
        let allowed = used + 1.0 <= self.burst;
        *bucket = (if allowed { used + 1.0 } else { used }, now.max(at).0);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_million_sources_need_no_more_memory() {
        let mut limiter = Limiter::new(1.0, 1.0);
        let before = limiter.buckets.len();
        let allowed = (0..1_000_000u64).filter(|source| limiter.take(Time(0), *source)).count();
        assert_eq!((limiter.buckets.len(), allowed), (before, BUCKETS));
    }

    proptest! {
        /// Whatever the timing of a source, no more is allowed than the burst and what was refilled.
        #[test]
        fn no_timing_beats_the_limit(pauses in prop::collection::vec(0u64..3_000_000_000, 1..300)) {
            let (rate, burst) = (2.0, 5.0);
            let mut limiter = Limiter::new(rate, burst);
            let mut now = Time(0);
            let mut allowed = 0;
            for pause in pauses {
                now = Time(now.0 + pause);
                allowed += u32::from(limiter.take(now, 7));
            }
            let most = f64::from(burst) + now.since(Time(0)).as_secs_f64() * f64::from(rate);
            prop_assert!(f64::from(allowed) <= most + 0.1, "{allowed} of {most}");
        }
    }
}
