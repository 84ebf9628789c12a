//! When something was written to a peer, as precisely as the liveness check needs it.

use std::time::Duration;

/// The precision with which the time of a write is recorded.
pub(super) const PERIOD: Duration = Duration::from_secs(5);

/// A peer is dead after this many periods in which something was outstanding and nothing was acknowledged: half a
/// minute.
pub(super) const DEAD: u32 = 6;

/// A period may end this much late. If it ends later, the process was stopped, and the times of earlier writes are not
/// known any more: outstanding bytes then count as written at that time.
pub(super) const LATE: Duration = Duration::from_secs(2);

/// The periods in which something was written to a peer, one bit for each; the lowest is the present period. A peer
/// without any bit is not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct RecentWrites(u8);

impl RecentWrites {
    /// Records a write. Returns whether it is the first one for which the peer is checked.
    pub(super) fn note(&mut self) -> bool {
        let first = self.0 == 0;
        self.0 |= 1;
        first
    }

    /// Forgets the earlier periods. If something is `outstanding`, it counts as written in the present one.
    pub(super) fn set(&mut self, outstanding: bool) {
        self.0 = outstanding.into();
    }

    /// Whether the peer is checked.
    pub(super) fn is_any(self) -> bool {
        self.0 != 0
    }

    /// Begins the next period.
    pub(super) fn age(&mut self) {
        self.0 <<= 1;
    }

    /// Whether a write is so old that the kernel must be asked at the end of the period.
    pub(super) fn is_due(self) -> bool {
        self.0 >> DEAD > 0
    }

    /// Called if something is outstanding and nothing was acknowledged for `silence`. Keeps only the periods whose
    /// writes are certainly unacknowledged, and returns how many periods have passed since the first of them.
    pub(super) fn outstanding_for(&mut self, silence: Duration) -> u32 {
        // A write at the beginning of a period that was acknowledged at once is older than the bits show, by as much as
        // the present period ended late.
        let silent = (silence.saturating_sub(LATE).as_secs() / PERIOD.as_secs()).min(7) as u32;
        // The last acknowledgement came in the period before these. If nothing was written in these, the outstanding
        // write was made in that period or before.
        let since = self.0 & ((1 << silent) - 1);
        self.0 = if since > 0 { since } else { 1 << silent };
        self.0.ilog2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes in the periods for which `writes` is true, the earliest first, to a peer that acknowledges every write
    /// before `dies_at` seconds. Returns after how many seconds it counts as dead, and how often the kernel was asked.
    fn dies(writes: &[bool], dies_at: u64) -> (Option<u64>, usize) {
        let (mut written, mut asked) = (RecentWrites::default(), 0);
        for (period, wrote) in writes.iter().enumerate() {
            if *wrote {
                written.note();
            }
            // Each write is made in the middle of its period, and acknowledged at once.
            let (end, middle) = ((period as u64 + 1) * 5, |period: usize| period as u64 * 5 + 2);
            let earlier = || (0..=period).filter(|period| writes[*period]).map(middle);
            let last = earlier().rfind(|time| *time < dies_at).unwrap_or(0);
            if written.is_due() {
                asked += 1;
                if earlier().all(|time| time < dies_at) {
                    written = RecentWrites::default();
                } else if written.outstanding_for(Duration::from_secs(end - last)) >= DEAD {
                    return (Some(end), asked);
                }
            }
            written.age();
        }
        (None, asked)
    }

    #[test]
    fn a_peer_that_was_just_written_to_again_is_alive_however_late_periods_end() {
        for late in (0..2_000).step_by(50).map(Duration::from_millis) {
            let mut written = RecentWrites::default();
            written.note();
            for _ in 0..6 {
                written.age();
            }
            // This write is not acknowledged yet. The first one was acknowledged right at the beginning.
            written.note();
            let silence = 7 * PERIOD + late;
            assert!(written.is_due() && written.outstanding_for(silence) < DEAD, "{late:?} late");
        }
    }

    #[test]
    fn the_kernel_is_rarely_asked_about_a_peer_that_acknowledges() {
        assert_eq!(dies(&[true; 700], u64::MAX), (None, 100));
        let once = [&[true][..], &[false; 100]].concat();
        assert_eq!(dies(&once, u64::MAX), (None, 1));
    }

    #[test]
    fn a_peer_that_acknowledges_nothing_for_half_a_minute_is_dead() {
        for dies_at in 0..200 {
            let (dead, _) = dies(&[true; 100], dies_at);
            let silent = dead.unwrap() - dies_at;
            assert!((30..=40).contains(&silent), "silent after {dies_at} s, dead after {silent} more");
        }
    }

    #[test]
    fn one_unacknowledged_write_is_enough_and_is_given_its_time() {
        for idle in 0..30 {
            let mut writes = [vec![true], vec![false; idle], vec![true]].concat();
            let wrote = (idle as u64 + 1) * 5 + 2;
            writes.resize(100, false);
            let (dead, asked) = dies(&writes, wrote);
            let silent = dead.unwrap() - wrote;
            assert!((30..=35).contains(&silent), "written after {wrote} s, dead after {silent} more");
            assert!(asked <= 3, "{asked}");
        }
    }
}
