//! One descriptor that becomes readable when there is something to do: for a socket, or at a time.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// An epoll instance with a timer and at most one socket in it.
#[derive(Debug)]
pub(super) struct Wakeup {
    epoll: Epoll,
    timer: TimerFd,
    due: Option<Instant>,
    /// Whether it also watches the socket for room to write.
    wants_room: bool,
}

impl Wakeup {
    pub(super) fn new() -> Result<Wakeup, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        Ok(Wakeup { epoll, timer, due: None, wants_room: false })
    }

    /// Watches this socket for reading. The kernel removes it when it is closed (epoll(7)).
    pub(super) fn add(&mut self, socket: &impl AsFd) -> Result<(), Errno> {
        self.wants_room = false;
        self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, 1))
    }

    /// Starts or stops watching the socket for room to write.
    pub(super) fn want_room(&mut self, socket: &impl AsFd, wants_room: bool) -> Result<(), Errno> {
        if std::mem::replace(&mut self.wants_room, wants_room) == wants_room {
            return Ok(());
        }
        let also = if wants_room { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        self.epoll.modify(socket, &mut EpollEvent::new(EpollFlags::EPOLLIN | also, 1))
    }

    /// Sets the timer, or stops it.
    pub(super) fn set(&mut self, due: Option<Instant>) -> Result<(), Errno> {
        if std::mem::replace(&mut self.due, due) == due {
            return Ok(());
        }
        match due {
            None => self.timer.unset(),
            Some(due) => {
                // Zero would stop the timer (timerfd_settime(2)).
                let left = due.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
                self.timer.set(Expiration::OneShot(TimeSpec::from_duration(left)), TimerSetTimeFlags::empty())
            }
        }
    }

    /// Waits until the descriptor is readable, or until `until`.
    pub(super) fn wait(&self, until: Option<Instant>) -> Result<(), Errno> {
        let timeout = until.map_or(EpollTimeout::NONE, |until| {
            let left = until.saturating_duration_since(Instant::now());
            // Round up to whole milliseconds: a wait that ends too early would be repeated without any delay.
            let left = if left.is_zero() { left } else { left + Duration::from_millis(1) };
            EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
        });
        match self.epoll.wait(&mut [EpollEvent::empty(); 2], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}
