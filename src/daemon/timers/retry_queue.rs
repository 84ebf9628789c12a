//! Deadlines that are all one period away when they are set, so that a plain queue keeps them in order.

use std::collections::VecDeque;
use std::time::Duration;

use upcall_engine::Time;

/// Entries that are due one period after they were added. They cannot be cancelled: the caller must check whether an
/// entry that it pops still matters.
#[derive(Debug)]
pub(in crate::daemon) struct RetryQueue<T> {
    period: Duration,
    queue: VecDeque<(Time, T)>,
}

impl<T> RetryQueue<T> {
    pub(in crate::daemon) fn new(period: Duration) -> RetryQueue<T> {
        RetryQueue { period, queue: VecDeque::new() }
    }

    pub(in crate::daemon) fn add(&mut self, now: Time, entry: T) {
        self.queue.push_back((now + self.period, entry));
    }

    /// When the first entry is due.
    pub(in crate::daemon) fn next(&self) -> Option<Time> {
        self.queue.front().map(|(deadline, _)| *deadline)
    }

    /// Removes and returns an entry that is due.
    pub(in crate::daemon) fn pop(&mut self, now: Time) -> Option<T> {
        self.next().filter(|deadline| *deadline <= now)?;
        let (_, entry) = self.queue.pop_front()?;
        if self.queue.capacity() > 4 * self.queue.len().max(16) {
            // The queue was long and is nearly empty now: free its memory.
            self.queue.shrink_to(2 * self.queue.len());
        }
        Some(entry)
    }

    pub(in crate::daemon) fn iter(&self) -> impl Iterator<Item = &T> {
        self.queue.iter().map(|(_, entry)| entry)
    }

    pub(in crate::daemon) fn clear(&mut self) {
        self.queue.clear();
    }

    pub(in crate::daemon) fn len(&self) -> usize {
        self.queue.len()
    }
}
