//! When the next message may be sent as a datagram: in short bursts, and after a growing delay if a buffer is full.
//! Pure; the caller passes the time.

use std::time::{Duration, Instant};

/// A burst is sent without a pause. Over UDP nothing else limits the rate, and datagrams that do not fit into the
/// daemon's buffer are lost.
const BURST_DATAGRAMS: usize = 16;
const BURST_BYTES: usize = 32 << 10;
const PAUSE: Duration = Duration::from_millis(1);

/// The delay before the next attempt if there is no room, and how many times it doubles. (POLLOUT does not depend on
/// the receiver's queue.)
const RETRY: Duration = Duration::from_millis(1);
const DOUBLINGS: u32 = 6;

/// Limits how fast messages are sent.
#[derive(Debug, Default)]
pub(in crate::commands) struct Pacer {
    /// How many datagrams and bytes were sent since the last pause.
    datagrams: usize,
    bytes: usize,
    /// How many attempts in a row found no room, up to [`DOUBLINGS`].
    stalls: u32,
    resume_at: Option<Instant>,
}

impl Pacer {
    /// The end of the current pause, if there is one.
    pub(in crate::commands) fn resume_at(&self) -> Option<Instant> {
        self.resume_at
    }

    /// Whether a message may be sent now. Ends a pause that is over.
    pub(in crate::commands) fn check(&mut self, now: Instant) -> bool {
        self.resume_at = self.resume_at.filter(|&at| at > now);
        self.resume_at.is_none()
    }

    /// A message was sent. `limited`: the transport itself does not limit the rate, so a pause follows each burst.
    pub(in crate::commands) fn note_sent(&mut self, bytes: usize, limited: bool, now: Instant) {
        self.stalls = 0;
        self.datagrams += 1;
        self.bytes += bytes;
        if limited && (self.datagrams >= BURST_DATAGRAMS || self.bytes >= BURST_BYTES) {
            self.pause(now + PAUSE);
        }
    }

    /// There was no room for a message.
    pub(in crate::commands) fn note_full(&mut self, now: Instant) {
        self.pause(now + RETRY * 2u32.pow(self.stalls));
        self.stalls = DOUBLINGS.min(self.stalls + 1);
    }

    /// Sends nothing before `until`.
    pub(in crate::commands) fn pause(&mut self, until: Instant) {
        (self.datagrams, self.bytes) = (0, 0);
        self.resume_at = self.resume_at.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of a thousand messages of this size are sent without a pause.
    fn burst(bytes: usize, limited: bool) -> usize {
        let (mut pacer, now) = (Pacer::default(), Instant::now());
        let mut send = || pacer.check(now).then(|| pacer.note_sent(bytes, limited, now));
        (0..1_000).map_while(|_| send()).count()
    }

    #[test]
    fn bursts_are_short_if_nothing_else_limits_the_rate() {
        assert_eq!(burst(10, true), BURST_DATAGRAMS);
        assert_eq!(burst(BURST_BYTES / 4, true), 4);
        assert_eq!(burst(60_000, true), 1);
        assert_eq!(burst(60_000, false), 1_000);
    }

    #[test]
    fn delays_grow_until_there_is_room() {
        let (mut pacer, mut now) = (Pacer::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..8 {
            pacer.note_full(now);
            assert!(!pacer.check(now));
            let until = pacer.resume_at().unwrap();
            waits.push((until - now).as_millis());
            now = until;
            assert!(pacer.check(now));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64]);
        pacer.note_sent(1, false, now);
        pacer.note_full(now);
        assert_eq!(pacer.resume_at(), Some(now + RETRY));
    }

    #[test]
    fn the_longer_pause_counts() {
        let (mut pacer, now) = (Pacer::default(), Instant::now());
        pacer.pause(now + PAUSE * 50);
        pacer.pause(now + PAUSE);
        assert_eq!(pacer.resume_at(), Some(now + PAUSE * 50));
    }
}
