//! The round trip to one endpoint, and how long to wait for what should have come back.

use std::time::Duration;

/// What timers can tell apart (RFC 9002 section 6.1.2).
const GRANULARITY: Duration = Duration::from_millis(1);

/// The first timeout, before there is a measured round trip (RFC 6298 section 2, rule 2.1).
const INITIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The shortest timeout.
const MIN_TIMEOUT: Duration = Duration::from_millis(200);

/// The longest timeout (RFC 6298 section 2, rule 2.5), and the longest round trip that is believed.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// The round trip, as RFC 9002 section 5 estimates it.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoundTrip {
    latest: Duration,
    pub(super) smoothed: Duration,
    pub(super) variation: Duration,
}

impl RoundTrip {
    /// The first sample, or one more (RFC 9002 section 5.3; in which order: RFC 6298 section 2, rule 2.3).
    pub(super) fn sampled(before: Option<RoundTrip>, latest: Duration) -> RoundTrip {
        let latest = latest.min(MAX_TIMEOUT);
        let Some(RoundTrip { smoothed, variation, .. }) = before else {
            return RoundTrip { latest, smoothed: latest, variation: latest / 2 };
        };
        RoundTrip {
            latest,
            variation: (variation * 3 + smoothed.abs_diff(latest)) / 4,
            smoothed: (smoothed * 7 + latest) / 8,
        }
    }

    /// How long after its departure a datagram is lost if a later one has arrived (RFC 9002 section 6.1.2).
    pub(super) fn loss_delay(self) -> Duration {
        (self.smoothed.max(self.latest) * 9 / 8).max(GRANULARITY)
    }

    fn timeout(self) -> Duration {
        self.smoothed + (self.variation * 4).max(GRANULARITY)
    }
}

/// How long to wait for any acknowledgment, after so many timeouts in a row (RFC 9002 section 6.2.1). The jitter, of up to
/// a quarter, only makes it longer: a shorter timeout than the computed one would be one in vain.
pub(super) fn timeout(round_trip: Option<RoundTrip>, timeouts: u32, jitter: &mut fastrand::Rng) -> Duration {
    let single = round_trip.map_or(INITIAL_TIMEOUT, RoundTrip::timeout).max(MIN_TIMEOUT);
    // 2^9 times the shortest is more than the longest.
    let timeout = (single * (1 << timeouts.min(9))).min(MAX_TIMEOUT);
    let more = jitter.u64(..=timeout.as_nanos() as u64 / 4);
    (timeout + Duration::from_nanos(more)).min(MAX_TIMEOUT)
}
