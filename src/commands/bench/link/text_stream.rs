//! A text stream as a link of the bench. Bytes pass unchanged.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use upcall_client::socket::stream::StreamSocket;

use super::BenchLink;

impl BenchLink for StreamSocket {
    fn send(&mut self, messages: &[u8], _: usize) -> io::Result<usize> {
        self.write(messages)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        StreamSocket::read(self, buffer)
    }

    fn is_lossy(&self) -> bool {
        false
    }

    fn daemon_pid(&self) -> Option<u32> {
        peer_pid(self)
    }
}

/// The process at the other end of a Unix socket. The kernel reports 0 for a process on another machine, or in a
/// process namespace that we cannot see.
pub(super) fn peer_pid(socket: &impl AsFd) -> Option<u32> {
    let peer = getsockopt(socket, PeerCredentials).ok()?;
    u32::try_from(peer.pid()).ok().filter(|pid| *pid != 0)
}
