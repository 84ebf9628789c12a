//! When the next message may be sent as a datagram: in bursts, and later where there is no room. Pure: no clock.

use std::time::{Duration, Instant};

/// What is sent without a pause. Over UDP nothing slows us down but this, and what does not fit into the daemon's buffer
/// is lost.
const BURST_DATAGRAMS: usize = 16;
const BURST_BYTES: usize = 32 << 10;
const PAUSE: Duration = Duration::from_millis(1);

/// When to try again where there is no room, and how often that time doubles while there is none. (POLLOUT says nothing
/// about another socket's queue.)
const RETRY: Duration = Duration::from_millis(1);
const DOUBLINGS: u32 = 6;

/// Holds messages back.
#[derive(Debug, Default)]
pub(in crate::commands) struct Pacer {
    /// Sent since the last pause.
    datagrams: usize,
    bytes: usize,
    /// Attempts in a row for which there was no room.
    stalls: u32,
    resume_at: Option<Instant>,
}

impl Pacer {
    /// When the pause is over; none where there is no pause.
    pub(in crate::commands) fn resume_at(&self) -> Option<Instant> {
        self.resume_at
    }

    /// Whether a message may be sent now.
    pub(in crate::commands) fn is_open(&mut self, now: Instant) -> bool {
        self.resume_at = self.resume_at.filter(|&at| at > now);
        self.resume_at.is_none()
    }

    /// A message was sent; `limited`: nothing else keeps us from sending too fast.
    pub(in crate::commands) fn sent(&mut self, bytes: usize, limited: bool, now: Instant) {
        self.stalls = 0;
        self.datagrams += 1;
        self.bytes += bytes;
        if limited && (self.datagrams >= BURST_DATAGRAMS || self.bytes >= BURST_BYTES) {
            self.pause(now + PAUSE);
        }
    }

    /// There was no room for a message.
    pub(in crate::commands) fn stalled(&mut self, now: Instant) {
        self.pause(now + RETRY * 2u32.pow(self.stalls));
        self.stalls = DOUBLINGS.min(self.stalls + 1);
    }

    /// Nothing is sent before then.
    pub(in crate::commands) fn pause(&mut self, until: Instant) {
        (self.datagrams, self.bytes) = (0, 0);
        self.resume_at = self.resume_at.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many messages of this size leave without a pause, of a thousand.
    fn burst(bytes: usize, limited: bool) -> usize {
        let (mut pacer, now) = (Pacer::default(), Instant::now());
        let mut send = || pacer.is_open(now).then(|| pacer.sent(bytes, limited, now));
        (0..1_000).map_while(|_| send()).count()
    }

    #[test]
    fn bursts_are_short_where_nothing_else_limits_them() {
        assert_eq!(burst(10, true), BURST_DATAGRAMS);
        assert_eq!(burst(BURST_BYTES / 4, true), 4);
        assert_eq!(burst(60_000, true), 1);
        assert_eq!(burst(60_000, false), 1_000);
    }

    #[test]
    fn without_room_it_is_tried_less_and_less_often_until_there_is_some() {
        let (mut pacer, mut now) = (Pacer::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..8 {
            pacer.stalled(now);
            assert!(!pacer.is_open(now));
            let until = pacer.resume_at().unwrap();
            waits.push((until - now).as_millis());
            now = until;
            assert!(pacer.is_open(now));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64]);
        pacer.sent(1, false, now);
        pacer.stalled(now);
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
