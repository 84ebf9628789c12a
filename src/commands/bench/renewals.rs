//! When registrations by datagram are to be renewed. Knows members by their numbers only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// How often somebody asks who is registered already: as often as `upcall-client listen` does at the least.
const RENEWAL: Duration = Duration::from_secs(20);

/// How often somebody asks who has not got anything yet: the first time may have been lost, or come when the daemon had
/// challenged as many strangers as it does in a second.
const RETRY: Duration = Duration::from_secs(1);

/// How many ask at a time: a daemon that is busy has room for so many, and for what is measured.
const BATCH: usize = 32;

/// When a member is looked at again, who it is, and when it has last asked.
type Turn = (Instant, usize, Instant);

/// Who asks when.
#[derive(Debug, Default)]
pub(super) struct Renewals(BinaryHeap<Reverse<Turn>>);

impl Renewals {
    /// This member has just asked for the first time.
    pub(super) fn add(&mut self, now: Instant, member: usize) {
        self.0.push(Reverse((now + RETRY, member, now)));
    }

    /// Who has to ask now, and is taken to do it.
    pub(super) fn due(&mut self, now: Instant, is_registered: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut asking = Vec::new();
        while asking.len() < BATCH
            && let Some(Reverse((_, member, asked))) = self.0.peek().copied().filter(|Reverse((due, ..))| *due <= now)
        {
            self.0.pop();
            let registered = is_registered(member);
            if registered && now < asked + RENEWAL {
                // Its first time was enough: nothing is to disturb what is measured.
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
    fn strangers_ask_often_and_the_registered_now_and_then() {
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
