//! A deadline on one of the kernel's clocks, as a file descriptor to poll.
//!
//! An epoll timeout would not do: it does not count the time for which the machine is suspended, and the kernel has to
//! set and cancel a timer for it in each wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

pub use nix::sys::timerfd::ClockId;

/// A one-shot timer (timerfd_create(2)).
#[derive(Debug)]
pub struct Alarm {
    timer: TimerFd,
    /// When it expires, in nanoseconds of its clock; `u64::MAX` while it is not set.
    at: u64,
}

impl Alarm {
    /// Creates an alarm on this clock. It is not set.
    pub fn new(clock: ClockId) -> io::Result<Alarm> {
        let timer = TimerFd::new(clock, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        Ok(Alarm { timer, at: u64::MAX })
    }

    /// Makes the alarm expire at `at` (nanoseconds of its clock) or earlier. If it is already set to an earlier time,
    /// it keeps that time, and no system call is made: most deadlines are moved to a later time before they are
    /// reached.
    pub fn set(&mut self, at: u64) -> io::Result<()> {
        if at < self.at {
            // The time 0 would disarm it.
            let expiration = Expiration::OneShot(TimeSpec::from(Duration::from_nanos(at.max(1))));
            self.timer.set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            self.at = at;
        }
        Ok(())
    }

    /// Records that the alarm has expired, so that the next [`set`](Alarm::set) arms it.
    pub fn mark_expired(&mut self) {
        self.at = u64::MAX;
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::time::TimeValLike;

    #[test]
    fn the_earliest_time_stays_set_until_the_alarm_expires() {
        let mut alarm = Alarm::new(ClockId::CLOCK_MONOTONIC).unwrap();
        let left = |alarm: &Alarm| match alarm.timer.get().unwrap() {
            Some(Expiration::OneShot(left)) => left.num_seconds(),
            other => panic!("{other:?}"),
        };
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap().num_nanoseconds() as u64;
        let in_seconds = |seconds: u64| now + seconds * 1_000_000_000;
        assert_eq!(alarm.timer.get().unwrap(), None);
        for (seconds, first) in [(5_000, 5_000), (9_000, 5_000), (1_000, 1_000), (1_001, 1_000)] {
            alarm.set(in_seconds(seconds)).unwrap();
            assert!((first - 100..=first).contains(&left(&alarm)), "{} s", left(&alarm));
        }
        alarm.mark_expired();
        alarm.set(in_seconds(2_000)).unwrap();
        assert!(left(&alarm) > 1_000, "{} s", left(&alarm));
    }
}
