//! Edge-triggered readiness (epoll(7)): a socket is registered once for its whole life, and causes no wakeups while it
//! is not read.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::sys::hot::{self, RawEvent};

/// Events taken from the kernel in one call.
const BATCH: usize = 1024;

/// The events that a socket is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// There is data to read, an end of stream, or an error.
    Read,
    /// The same, or there is room to write. Use it only after a write has found no room, because on a Unix socket every
    /// read of the peer causes such an event.
    ReadWrite,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        let read = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        match self {
            Interest::Read => read,
            Interest::ReadWrite => read | EpollFlags::EPOLLOUT,
        }
    }
}

/// An event of the socket that was registered with `token`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// The token of the registration.
    pub token: u64,
    /// A read returns data, an end of stream, or an error.
    pub readable: bool,
    /// The peer has ended its side, or the connection is broken: a short read does not mean that the socket is drained.
    pub hangup: bool,
    /// There is room to write.
    pub writable: bool,
}

/// An epoll instance with a buffer for its events.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    events: Vec<RawEvent>,
}

impl Poller {
    /// Creates a poller that watches nothing.
    pub fn new() -> io::Result<Poller> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Poller { epoll, events: vec![RawEvent { events: 0, u64: 0 }; BATCH] })
    }

    /// Registers a socket. Closing the socket ends the registration, unless another descriptor or process holds it
    /// open.
    pub fn add(&self, socket: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.add(socket, EpollEvent::new(interest.flags(), token))?)
    }

    /// Changes the events that a registered socket is watched for.
    pub fn modify(&self, socket: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.modify(socket, &mut EpollEvent::new(interest.flags(), token))?)
    }

    /// Ends a registration.
    pub fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(self.epoll.delete(socket)?)
    }

    /// Waits for events, for at most `timeout` if there is one. A signal ends the wait without events.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<impl Iterator<Item = Readiness> + '_> {
        // Rounded up, so that a deadline half a millisecond away does not become a busy loop.
        let milliseconds = timeout.map(|timeout| timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32);
        let count = match hot::wait(&self.epoll.0, &mut self.events, milliseconds.unwrap_or(-1)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other?,
        };
        Ok(self.events[..count].iter().map(|event| {
            let flags = EpollFlags::from_bits_truncate(event.events as i32);
            let hangup = flags.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
            Readiness {
                token: event.u64,
                readable: hangup || flags.contains(EpollFlags::EPOLLIN),
                hangup,
                writable: flags.intersects(EpollFlags::EPOLLOUT | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR),
            }
        }))
    }
}
