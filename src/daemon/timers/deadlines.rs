//! Deadlines that are all equally far away when they are set, so that a queue keeps them in order.

use std::collections::VecDeque;
use std::time::Duration;

use upcall_engine::Time;

/// What is to be looked at again after one period. An entry is not cancelled: whoever takes it out sees whether it
/// still matters.
#[derive(Debug)]
pub(in crate::daemon) struct Deadlines<T> {
    period: Duration,
    queue: VecDeque<(Time, T)>,
}

impl<T> Deadlines<T> {
    pub(in crate::daemon) fn new(period: Duration) -> Deadlines<T> {
        Deadlines { period, queue: VecDeque::new() }
    }

    pub(in crate::daemon) fn add(&mut self, now: Time, what: T) {
        self.queue.push_back((now + self.period, what));
    }

    pub(in crate::daemon) fn next(&self) -> Option<Time> {
        self.queue.front().map(|(deadline, _)| *deadline)
    }

    /// Takes out one that is due.
    pub(in crate::daemon) fn pop(&mut self, now: Time) -> Option<T> {
        self.next().filter(|deadline| *deadline <= now)?;
        let (_, what) = self.queue.pop_front()?;
        if self.queue.capacity() > 4 * self.queue.len().max(16) {
            // There was a crowd, and most of it has gone.
            self.queue.shrink_to(2 * self.queue.len());
        }
        Some(what)
    }

    pub(in crate::daemon) fn iter(&self) -> impl Iterator<Item = &T> {
        self.queue.iter().map(|(_, what)| what)
    }

    pub(in crate::daemon) fn clear(&mut self) {
        self.queue.clear();
    }

    pub(in crate::daemon) fn len(&self) -> usize {
        self.queue.len()
    }
}
