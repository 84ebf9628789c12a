//! A sending socket for one Unix datagram peer.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Socket, Type};

use super::errno::SendError;
use super::unix_peer::UnixPeer;
use crate::net::sys;

/// The smallest send buffer of a peer's own socket, in bytes; the kernel doubles it. A stalled peer can occupy twice
/// this or twice the largest datagram, whichever is more, plus one datagram, of the kernel's memory.
const PEER_BUFFER: usize = 64 * 1024;

/// A sending socket for one Unix datagram peer that does not read. Unread datagrams are charged to this socket alone,
/// and because it is connected, the poller reports correctly when there is room again
/// ([`Interest::ReadWrite`](crate::net::poller::Interest)).
///
/// It has no name, so the peer sees an unnamed sender. A peer that has connected its own socket to the shared one
/// accepts datagrams from that one only; for such a peer `connect` fails with EPERM. The kernel does not limit the
/// queue of such a peer either, except by the shared socket's send buffer (unix_dgram_sendmsg). The peer could fill
/// that buffer by not reading; [`FlowControl`](super::FlowControl) prevents it. If many such peers fill it together,
/// all other peers can still be reached over sockets of their own.
#[derive(Debug)]
pub struct PeerSocket {
    socket: Socket,
}

impl PeerSocket {
    /// A socket that sends datagrams of at most `largest` bytes to `peer`.
    pub fn connect(peer: &UnixPeer, largest: usize) -> Result<PeerSocket, SendError> {
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::DGRAM.cloexec().nonblocking(), None)?;
            socket.set_send_buffer_size(largest.max(PEER_BUFFER))?;
            socket.connect(&peer.address)?;
            Ok(PeerSocket { socket })
        };
        connect().map_err(|error: io::Error| SendError::of_unix(error.raw_os_error().unwrap_or(libc::EINVAL)))
    }

    /// Whether the peer has read everything that was sent over this socket. Unread datagrams are charged to it; if it
    /// is closed too early, they are charged to no socket.
    pub fn is_drained(&self) -> bool {
        sys::unsent(self).is_ok_and(|bytes| bytes == 0)
    }

    /// Sends a run of datagrams of `size` bytes each, except the last, which may be shorter. Returns how many were
    /// sent, or the error of the first.
    pub fn send_run(&self, run: &[u8], size: usize) -> Result<usize, SendError> {
        if run.len() <= size {
            return self.send(&[IoSlice::new(run)]).map(|()| 1);
        }
        retry(|| sys::send::send_run(&self.socket, run, size))
    }

    /// Sends one datagram that is made of these slices.
    pub fn send(&self, slices: &[IoSlice<'_>]) -> Result<(), SendError> {
        retry(|| sys::send::send(&self.socket, slices))
    }
}

/// Repeats a call that a signal interrupts.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> Result<T, SendError> {
    loop {
        return match call().map_err(|error| error.raw_os_error()) {
            Ok(value) => Ok(value),
            Err(Some(libc::EINTR)) => continue,
            Err(errno) => Err(SendError::of_unix(errno.unwrap_or(libc::EINVAL))),
        };
    }
}

impl AsFd for PeerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
