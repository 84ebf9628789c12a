//! When registrations by datagram must be renewed. Knows members only by their index.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// The time between two requests of a registered member: the same as the longest one of `upcall-client listen`.
const RENEWAL: Duration = Duration::from_secs(20);

/// The time between two requests of a member that has not received anything yet. Its first request may have been lost,
/// or have arrived when the daemon had already sent as many challenges as it does in a second.
const RETRY: Duration = Duration::from_secs(1);

/// At most this many members send a request at a time, so that a busy daemon has room for them and for the messages
/// that are measured.
const BATCH: usize = 32;

/// When a member is checked again, its index, and when it sent its last request.
type Check = (Instant, usize, Instant);

/// The schedule of all members.
#[derive(Debug, Default)]
pub(super) struct Renewals(BinaryHeap<Reverse<Check>>);

impl Renewals {
    /// Adds a member that has just sent its first request.
    pub(super) fn add(&mut self, now: Instant, member: usize) {
        self.0.push(Reverse((now + RETRY, member, now)));
    }

    /// The members that must send a request now. They are scheduled again as if they had sent it.
    pub(super) fn due(&mut self, now: Instant, is_registered: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut asking = Vec::new();
        while asking.len() < BATCH
            && let Some(Reverse((_, member, asked))) = self.0.peek().copied().filter(|Reverse((due, ..))| *due <= now)
        {
            self.0.pop();
            let registered = is_registered(member);
            if registered && now < asked + RENEWAL {
                // It is registered, and needs no renewal yet. A request would only disturb the measurement.
                self.0.push(Reverse((asked + RENEWAL, member, asked)));
                continue;
            }
            asking.push(member);
            self.0.push(Reverse((now + if registered { RENEWAL } else { RETRY }, member, now)));
        }
        asking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_frequent_until_a_member_is_registered() {
        let (mut renewals, begun) = (Renewals::default(), Instant::now());
        (0..100).for_each(|member| renewals.add(begun, member));
        let mut asked = vec![0; 100];
        for millisecond in 0..65_000 {
            let asking = renewals.due(begun + Duration::from_millis(millisecond), |member| member < 50);
            assert!(asking.len() <= BATCH);
            asking.into_iter().for_each(|member| asked[member] += 1);
        }
        assert_eq!(asked[..50], [3; 50], "after 20, 40 and 60 seconds");
        assert!(asked[50..].iter().all(|count| (60..=64).contains(count)), "{asked:?}");
    }
}
