//! A deadline on one of the kernel's clocks, as something to poll. It serves where a timeout of epoll would not do, since that
//! sleeps while the machine is suspended; and where one would cost too much, since the kernel sets and unsets it at each wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

pub use nix::sys::timerfd::ClockId;

/// An alarm clock (timerfd_create(2)).
#[derive(Debug)]
pub struct Alarm {
    timer: TimerFd,
    /// When it goes off, in nanoseconds of its clock; the end of time while it is not set.
    at: u64,
}

impl Alarm {
    /// An alarm that is not set, on this clock.
    pub fn new(clock: ClockId) -> io::Result<Alarm> {
        let timer = TimerFd::new(clock, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        Ok(Alarm { timer, at: u64::MAX })
    }

    /// Sees to it that it goes off at a time of its clock, in nanoseconds, or earlier: one that was set to an earlier time stays
    /// so, and costs nothing. Deadlines are mostly moved to later times, and seldom come.
    pub fn set(&mut self, at: u64) -> io::Result<()> {
        if at < self.at {
            // The time 0 would turn it off.
            let expiration = Expiration::OneShot(TimeSpec::from(Duration::from_nanos(at.max(1))));
            self.timer.set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            self.at = at;
        }
        Ok(())
    }

    /// It went off: it is not set any more.
    pub fn went_off(&mut self) {
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
    fn it_stays_set_to_the_earliest_time_until_it_has_gone_off() {
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
        alarm.went_off();
        alarm.set(in_seconds(2_000)).unwrap();
        assert!(left(&alarm) > 1_000, "{} s", left(&alarm));
    }
}
