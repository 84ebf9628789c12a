//! Readiness, edge by edge (epoll(7)): one registration serves a socket for its whole life, and a socket that nobody reads
//! for a while costs nothing.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::sys::hot::{self, Event};

/// Events taken from the kernel at a time.
const BATCH: usize = 1024;

/// What a socket is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something to read, an end, or an error.
    Read,
    /// The same, or room to write: only while a write has found none, since the far end of a Unix socket makes an
    /// event with every read.
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

/// What happened to the socket of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// The token that it was registered with.
    pub token: u64,
    /// There is something to read, an end, or an error to be read.
    pub readable: bool,
    /// The far end has ended its side, or the connection is broken: a short read is not the last one.
    pub hangup: bool,
    /// There is room to write.
    pub writable: bool,
}

/// Watches sockets.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    events: Vec<Event>,
}

impl Poller {
    /// A poller that watches nothing yet.
    pub fn new() -> io::Result<Poller> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Poller { epoll, events: vec![Event { events: 0, u64: 0 }; BATCH] })
    }

    /// Watches a socket. Closing it ends that, unless another process, or another descriptor, has it open, too.
    pub fn add(&self, socket: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.add(socket, EpollEvent::new(interest.flags(), token))?)
    }

    /// Watches it for something else.
    pub fn modify(&self, socket: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.modify(socket, &mut EpollEvent::new(interest.flags(), token))?)
    }

    /// Watches it no longer.
    pub fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(self.epoll.delete(socket)?)
    }

    /// Waits until something happens, or for `timeout`; for ever without one.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<impl Iterator<Item = Readiness> + '_> {
        // Rounded up, lest a deadline half a millisecond away be waited for in a busy loop.
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
