//! Connected streams, TCP and Unix: reading, writing, closing, and the state of the peer as the kernel reports it.

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, getsockopt, recv, sockopt};
use socket2::Socket;
use upcall_wire::address::Credentials;

use super::sys;

/// A connected, non-blocking stream socket.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
}

/// The result of a read.
#[derive(Debug)]
pub enum ReadOutcome {
    /// This many bytes were read.
    Bytes(usize),
    /// There is nothing to read now.
    Drained,
    /// The peer has ended its side.
    End,
    /// The connection is broken: reset, timed out, unreachable.
    Broken(io::Error),
}

/// The result of a write.
#[derive(Debug)]
pub enum WriteOutcome {
    /// The kernel took this many bytes.
    Bytes(usize),
    /// There is no room now. The poller reports when there is.
    Full,
    /// The kernel has no memory now. No event reports when it has, so the caller must retry.
    NoMemory,
    /// The connection is broken, or the peer has closed its reading side.
    Broken(io::Error),
}

impl Stream {
    /// Takes over a connected socket and makes it non-blocking.
    pub fn new(socket: Socket) -> io::Result<Stream> {
        socket.set_nonblocking(true)?;
        Ok(Stream { socket })
    }

    /// Reads once.
    pub fn receive(&self, buffer: &mut [u8]) -> ReadOutcome {
        loop {
            return match sys::hot::receive(self, buffer) {
                Ok(0) => ReadOutcome::End,
                Ok(count) => ReadOutcome::Bytes(count),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock | ErrorKind::OutOfMemory => ReadOutcome::Drained,
                    _ => ReadOutcome::Broken(error),
                },
            };
        }
    }

    /// Copies bytes that can be read, without consuming them. Returns `None` if there are none, at the end of the
    /// stream and on an error.
    pub fn peek(&self, buffer: &mut [u8]) -> Option<usize> {
        let count = recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_PEEK).ok()?;
        (count > 0).then_some(count)
    }

    /// Writes once.
    pub fn send(&self, bytes: &[u8]) -> WriteOutcome {
        Self::write(|| sys::hot::send(self, bytes, None))
    }

    /// Writes once, all slices in one system call.
    pub fn send_vectored(&self, slices: &[IoSlice<'_>]) -> WriteOutcome {
        Self::write(|| self.socket.send_vectored_with_flags(slices, MsgFlags::MSG_NOSIGNAL.bits()))
    }

    fn write(mut call: impl FnMut() -> io::Result<usize>) -> WriteOutcome {
        loop {
            return match call() {
                Ok(count) => WriteOutcome::Bytes(count),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::EAGAIN) => WriteOutcome::Full,
                    Some(libc::ENOBUFS | libc::ENOMEM) => WriteOutcome::NoMemory,
                    _ => WriteOutcome::Broken(error),
                },
            };
        }
    }

    /// Shuts down the writing side: the peer reads what was written, then the end of the stream.
    pub fn end(&self) {
        // It fails only if the connection is broken already, which the next read reports.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Makes the close a reset, so that unread data does not occupy kernel memory.
    pub fn abort_on_close(&self) {
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }

    /// The process that connected a Unix socket, as it was at that time (SO_PEERCRED, unix(7)).
    pub fn credentials(&self) -> io::Result<Credentials> {
        let peer = getsockopt(&self.socket, sockopt::PeerCredentials)?;
        Ok(Credentials { pid: peer.pid(), uid: peer.uid(), gid: peer.gid() })
    }

    /// For how long the peer of a TCP connection has acknowledged nothing; `None` if nothing is outstanding.
    ///
    /// Three unanswered window probes count as outstanding. A live peer without room answers each probe.
    pub fn silence(&self) -> Option<Duration> {
        let info = sys::tcp_info(self).ok()?;
        (info.unacknowledged > 0 || info.probes >= 3).then_some(info.silence)
    }

    /// Whether there are written bytes that are not acknowledged yet or, over a Unix socket, not read yet.
    pub fn is_pending(&self) -> bool {
        sys::unsent(self).is_ok_and(|bytes| bytes > 0)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
