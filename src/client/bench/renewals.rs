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

/// Who asks when.
#[derive(Debug, Default)]
pub(super) struct Renewals(BinaryHeap<Reverse<(Instant, usize)>>);

impl Renewals {
    /// This member has just asked for the first time.
    pub(super) fn add(&mut self, now: Instant, member: usize) {
        self.0.push(Reverse((now + RETRY, member)));
    }

    /// Lets `ask` ask for everyone whose turn it is; it says whether the member is registered.
    pub(super) fn see_to(&mut self, now: Instant, mut ask: impl FnMut(usize) -> bool) {
        for _ in 0..BATCH {
            let Some(Reverse((_, member))) = self.0.peek().copied().filter(|Reverse((due, _))| *due <= now) else {
                return;
            };
            self.0.pop();
            let pause = if ask(member) { RENEWAL } else { RETRY };
            self.0.push(Reverse((now + pause, member)));
        }
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
            let mut at_once = 0;
            renewals.see_to(begun + Duration::from_millis(millisecond), |member| {
                asked[member] += 1;
                at_once += 1;
                member < 50
            });
            assert!(at_once <= BATCH);
        }
        assert_eq!(asked[..50], [4; 50], "after 1, 21, 41 and 61 seconds");
        assert!(asked[50..].iter().all(|count| (60..=64).contains(count)), "{asked:?}");
    }
}
