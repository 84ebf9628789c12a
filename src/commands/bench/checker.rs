//! Checks what one receiver gets of one publisher: every index once, and in order. Pure.

use std::ops::AddAssign;

use serde::Serialize;

/// At most this many gaps are remembered, so that memory is limited on a link that loses many messages. A message that
/// fills an older gap counts as a duplicate.
const MAX_GAPS: usize = 1_024;

/// How many messages were received wrongly, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Faults {
    /// Never received.
    pub(super) lost: u64,
    /// Received more than once.
    pub(super) duplicates: u64,
    /// Received after one that was sent later.
    pub(super) reordered: u64,
    /// Received with other bytes than were sent.
    pub(super) damaged: u64,
}

impl Faults {
    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        *self != Faults::default()
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Faults) {
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.damaged += other.damaged;
    }
}

/// Follows the indices that a receiver gets, from the first one on, whatever that is.
#[derive(Debug, Default)]
pub(super) struct Checker {
    begun: bool,
    next: u64,
    /// The first and last index of each range that is missing, in order.
    gaps: Vec<(u64, u64)>,
    faults: Faults,
}

impl Checker {
    /// Records the index of a message that was received. Returns whether it was received for the first time.
    pub(super) fn record(&mut self, index: u64) -> bool {
        if index == self.next {
            self.begun = true;
            self.next += 1;
            return true;
        }
        self.out_of_order(index)
    }

    fn out_of_order(&mut self, index: u64) -> bool {
        if !self.begun {
            self.begun = true;
        } else if index > self.next {
            self.faults.lost += index - self.next;
            if self.gaps.len() == MAX_GAPS {
                self.gaps.remove(0);
            }
            self.gaps.push((self.next, index - 1));
        } else {
            return self.late(index);
        }
        self.next = index + 1;
        true
    }

    fn late(&mut self, index: u64) -> bool {
        let Some(at) = self.gaps.iter().position(|(first, last)| (*first..=*last).contains(&index)) else {
            self.faults.duplicates += 1;
            return false;
        };
        let (first, last) = self.gaps.remove(at);
        if index < last {
            self.gaps.insert(at, (index + 1, last));
        }
        if first < index {
            self.gaps.insert(at, (first, index - 1));
        }
        self.faults.lost -= 1;
        self.faults.reordered += 1;
        true
    }

    /// Records something that began like a message of this run and was not one.
    pub(super) fn damaged(&mut self) {
        self.faults.damaged += 1;
    }

    /// Counts everything before index `next` as lost that was not received.
    pub(super) fn give_up(&mut self, next: u64) {
        if self.begun && next > self.next {
            self.faults.lost += next - self.next;
            self.gaps.push((self.next, next - 1));
            self.next = next;
        }
    }

    /// Whether anything was received.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// One more than the highest index that was received.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The faults so far.
    pub(super) fn faults(&self) -> Faults {
        self.faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn faults(indices: &[u64]) -> Faults {
        let mut checker = Checker::default();
        for index in indices {
            checker.record(*index);
        }
        checker.faults()
    }

    #[test]
    fn any_first_index_is_right() {
        assert!(!faults(&[0, 1, 2]).any());
        assert!(!faults(&[7, 8, 9]).any());
        assert!(!faults(&[]).any());
    }

    #[test]
    fn each_fault_is_counted_by_kind() {
        let none = Faults::default();
        assert_eq!(faults(&[0, 1, 4, 5]), Faults { lost: 2, ..none });
        assert_eq!(faults(&[0, 1, 1, 2, 0]), Faults { duplicates: 2, ..none });
        assert_eq!(faults(&[0, 2, 1, 3]), Faults { reordered: 1, ..none });
        assert_eq!(faults(&[0, 5, 2, 2]), Faults { lost: 3, duplicates: 1, reordered: 1, ..none });
    }

    #[test]
    fn what_is_given_up_is_lost_until_it_is_received() {
        let mut checker = Checker::default();
        checker.give_up(3);
        assert!(!checker.has_begun());
        checker.record(3);
        checker.give_up(6);
        assert_eq!((checker.next(), checker.faults().lost), (6, 2));
        assert!(checker.record(5) && !checker.record(5));
        assert_eq!(checker.faults(), Faults { lost: 1, reordered: 1, duplicates: 1, damaged: 0 });
    }

    #[test]
    fn the_number_of_gaps_is_bounded() {
        let mut checker = Checker::default();
        assert!((0..10_000).all(|i| checker.record(i * 2)));
        assert_eq!((checker.gaps.len(), checker.faults().lost), (MAX_GAPS, 9_999));
    }

    proptest! {
        #[test]
        fn losses_and_duplicates_add_up(indices in prop::collection::vec(0u64..40, 0..80)) {
            let indices = [&[0], indices.as_slice()].concat();
            let distinct: BTreeSet<u64> = indices.iter().copied().collect();
            let faults = faults(&indices);
            prop_assert_eq!(faults.duplicates, (indices.len() - distinct.len()) as u64);
            prop_assert_eq!(faults.lost, distinct.last().map_or(0, |last| last + 1) - distinct.len() as u64);
        }
    }
}
