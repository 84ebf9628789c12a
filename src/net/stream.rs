//! Connected streams, TCP and Unix: read, write, end, and what the kernel knows of the far end.

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, getsockopt, recv, sockopt};
use socket2::Socket;

use super::sys;
use upcall_wire::address::Credentials;

/// A connected, non-blocking stream socket.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
}

/// What a read gave.
#[derive(Debug)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Drained,
    /// The far end has ended its side.
    End,
    /// The connection is broken: reset, timed out, unreachable.
    Broken(io::Error),
}

/// What a write achieved.
#[derive(Debug)]
pub enum Sent {
    /// So many bytes are taken.
    Bytes(usize),
    /// There is no room for now; the poller says when there is.
    Full,
    /// The kernel has no memory for now; nobody says when it has.
    Starved,
    /// The connection is broken, or the far end reads no more.
    Broken(io::Error),
}

impl Stream {
    /// Takes over a connected socket.
    pub fn new(socket: Socket) -> io::Result<Stream> {
        socket.set_nonblocking(true)?;
        Ok(Stream { socket })
    }

    /// Reads once.
    pub fn receive(&self, buffer: &mut [u8]) -> Received {
        loop {
            return match sys::hot::receive(self, buffer) {
                Ok(0) => Received::End,
                Ok(count) => Received::Bytes(count),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue,
                    ErrorKind::WouldBlock | ErrorKind::OutOfMemory => Received::Drained,
                    _ => Received::Broken(error),
                },
            };
        }
    }

    /// What could be read now, which stays to be read; none at the end, or where nothing is.
    pub fn peek(&self, buffer: &mut [u8]) -> Option<usize> {
        let count = recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_PEEK).ok()?;
        (count > 0).then_some(count)
    }

    /// Writes once.
    pub fn send(&self, bytes: &[u8]) -> Sent {
        Self::sent(|| sys::hot::send(self, bytes))
    }

    /// Writes once, all slices in one system call.
    pub fn send_all(&self, slices: &[IoSlice<'_>]) -> Sent {
        Self::sent(|| self.socket.send_vectored_with_flags(slices, MsgFlags::MSG_NOSIGNAL.bits()))
    }

    fn sent(mut write: impl FnMut() -> io::Result<usize>) -> Sent {
        loop {
            return match write() {
                Ok(count) => Sent::Bytes(count),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::EAGAIN) => Sent::Full,
                    Some(libc::ENOBUFS | libc::ENOMEM) => Sent::Starved,
                    _ => Sent::Broken(error),
                },
            };
        }
    }

    /// Ends our side: the far end reads what is written, then an end.
    pub fn end(&self) {
        // A connection that is broken already needs no end.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Makes closing it a reset: nothing that is still unread keeps memory in the kernel.
    pub fn abort_on_close(&self) {
        let _ = self.socket.set_linger(Some(Duration::ZERO));
    }

    /// Who connected a Unix socket, when it did (SO_PEERCRED, unix(7)).
    pub fn credentials(&self) -> io::Result<Credentials> {
        let peer = getsockopt(&self.socket, sockopt::PeerCredentials)?;
        Ok(Credentials { pid: peer.pid(), uid: peer.uid(), gid: peer.gid() })
    }

    /// For a TCP connection over which something is outstanding, for how long the far end has acknowledged nothing; `None`
    /// where nothing is outstanding. A far end that only has no room acknowledges all the same, each time it is probed;
    /// three probes without an answer count as something outstanding.
    pub fn silence(&self) -> Option<Duration> {
        let info = sys::tcp_info(self).ok()?;
        (info.unacknowledged > 0 || info.probes >= 3).then_some(info.silence)
    }

    /// Whether something that was written has not been acknowledged, or over a Unix socket not been read, yet.
    pub fn is_pending(&self) -> bool {
        sys::unsent(self).is_ok_and(|bytes| bytes > 0)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
