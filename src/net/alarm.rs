//! One deadline on the clock that counts while the machine is suspended (CLOCK_BOOTTIME), as something to poll: a timeout of
//! epoll would sleep on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// An alarm clock (timerfd_create(2)).
#[derive(Debug)]
pub struct Alarm {
    timer: TimerFd,
    /// When it goes off, in nanoseconds of that clock.
    at: Option<u64>,
}

impl Alarm {
    /// An alarm that is not set.
    pub fn new() -> io::Result<Alarm> {
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        Ok(Alarm { timer, at: None })
    }

    /// Sets it to a time of that clock, in nanoseconds, or not at all. Costs nothing where that changes nothing.
    pub fn set(&mut self, at: Option<u64>) -> io::Result<()> {
        if self.at == at {
            return Ok(());
        }
        match at {
            // The time 0 would turn it off.
            Some(at) => self.timer.set(
                Expiration::OneShot(TimeSpec::from(Duration::from_nanos(at.max(1)))),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            )?,
            None => self.timer.unset()?,
        }
        self.at = at;
        Ok(())
    }

    /// It went off: it can be set to the same time again.
    pub fn went_off(&mut self) {
        self.at = None;
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
