//! The round trip time to one endpoint, and the timeouts that follow from it. Kept as integers of nanoseconds: it is
//! estimated again with each acknowledgment, and calculations with integers are cheaper than with [`Duration`]s.

use std::time::Duration;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

/// The granularity of timers (RFC 9002 section 6.1.2).
const GRANULARITY: u64 = MILLISECOND;

/// The timeout before a round trip was measured (RFC 6298 section 2, rule 2.1).
const INITIAL_TIMEOUT: u64 = SECOND;

/// The shortest timeout.
const MIN_TIMEOUT: u64 = 200 * MILLISECOND;

/// The longest timeout (RFC 6298 section 2, rule 2.5), and the longest round trip that is taken as a sample.
const MAX_TIMEOUT: u64 = 60 * SECOND;

/// The round trip time, estimated as in RFC 9002 section 5.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoundTrip {
    latest: u64,
    pub(crate) smoothed: u64,
    pub(crate) variation: u64,
}

impl RoundTrip {
    /// The estimate with one more sample (RFC 9002 section 5.3). The variation comes first (RFC 6298 section 2, rule
    /// 2.3).
    pub(crate) fn sampled(before: Option<RoundTrip>, latest: Duration) -> RoundTrip {
        let latest = u64::try_from(latest.as_nanos()).unwrap_or(u64::MAX).min(MAX_TIMEOUT);
        let Some(RoundTrip { smoothed, variation, .. }) = before else {
            return RoundTrip { latest, smoothed: latest, variation: latest / 2 };
        };
        RoundTrip {
            latest,
            variation: (variation * 3 + smoothed.abs_diff(latest)) / 4,
            smoothed: (smoothed * 7 + latest) / 8,
        }
    }

    /// How long after it was sent a datagram is lost if a later one has arrived (RFC 9002 section 6.1.2).
    pub(crate) fn loss_delay(self) -> Duration {
        Duration::from_nanos((self.smoothed.max(self.latest) * 9 / 8).max(GRANULARITY))
    }

    fn timeout(self) -> u64 {
        self.smoothed + (self.variation * 4).max(GRANULARITY)
    }
}

/// How long to wait for an acknowledgment after `timeouts` timeouts in a row (RFC 9002 section 6.2.1). The jitter, of
/// up to a quarter, only makes it longer: before the computed timeout a retransmission would be wasted.
pub(crate) fn timeout(round_trip: Option<RoundTrip>, timeouts: u32, jitter: &mut fastrand::Rng) -> Duration {
    let single = round_trip.map_or(INITIAL_TIMEOUT, RoundTrip::timeout).max(MIN_TIMEOUT);
    // 2^9 times the shortest is more than the longest.
    let timeout = (single * (1 << timeouts.min(9))).min(MAX_TIMEOUT);
    let more = jitter.u64(..=timeout / 4);
    Duration::from_nanos((timeout + more).min(MAX_TIMEOUT))
}
