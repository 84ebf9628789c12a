//! Unix datagram peers: whether one may be written to, and a sending socket of its own for one that stalls.
//!
//! A datagram that waits in a receiver's queue is charged to the send buffer of the socket that sent it. A peer that does
//! not read thus fills the shared socket for everybody, unless it is written to by another one.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use super::errno::Trouble;
use crate::net::sys;
use upcall_wire::address::UnixName;

/// The least send buffer of a peer's own socket, in bytes; the kernel doubles it. What one stalled peer can hold of the
/// kernel's memory is twice this or the largest datagram, and one datagram more.
const PEER_BUFFER: usize = 64 * 1024;

/// A Unix datagram peer that may be written to: it has an abstract name, or a socket file that belongs to the user
/// who sent from it. For a path it holds a file descriptor.
#[derive(Debug)]
pub struct UnixPeer {
    name: UnixName,
    pub(super) address: SockAddr,
    /// The socket file that was looked at. It is this one that is written to, by way of /proc/self/fd, and not what is at
    /// the path by then: otherwise a peer could replace its socket by a link to one of somebody else.
    file: Option<File>,
}

/// Why a name is not written to.
#[derive(Debug)]
pub enum Unwritable {
    /// A path that is not absolute: relative to the sender's directory, which we do not know.
    Relative,
    /// There is something else than a socket at the path; a symbolic link is something else.
    NotASocket,
    /// The socket belongs to this other user.
    NotOwned(u32),
    /// It cannot be looked at: it does not exist here, or there are no file descriptors.
    System(io::Error),
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unwritable::Relative => f.write_str("its path is relative"),
            Unwritable::NotASocket => f.write_str("its path is not that of a socket"),
            Unwritable::NotOwned(uid) => write!(f, "its socket belongs to uid {uid}"),
            Unwritable::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unwritable {}

impl From<io::Error> for Unwritable {
    fn from(error: io::Error) -> Unwritable {
        Unwritable::System(error)
    }
}

impl UnixPeer {
    /// Verifies the name of a socket from which `uid` has sent.
    pub fn verify(name: &UnixName, uid: u32) -> Result<UnixPeer, Unwritable> {
        let (address, file) = match name {
            UnixName::Abstract(name) => (abstract_address(name)?, None),
            UnixName::Path(path) => {
                let file = verify_path(path, uid)?;
                (SockAddr::unix(format!("/proc/self/fd/{}", file.as_raw_fd()))?, Some(file))
            }
        };
        Ok(UnixPeer { name: name.clone(), address, file })
    }

    /// Whether the name still stands for the socket that was verified: its owner may have made another one since, or
    /// somebody else. An abstract name stands for whoever has it.
    pub fn is_current(&self) -> bool {
        let (UnixName::Path(path), Some(file)) = (&self.name, &self.file) else { return true };
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let there = fs::symlink_metadata(path).map(identity);
        there.is_ok_and(|there| file.metadata().map(identity).is_ok_and(|held| held == there))
    }

    /// The name that it was verified by.
    pub fn name(&self) -> &UnixName {
        &self.name
    }
}

/// The address of an abstract name, which begins with a NUL (unix(7)).
pub(super) fn abstract_address(name: &[u8]) -> io::Result<SockAddr> {
    SockAddr::unix(OsStr::from_bytes(&[&[0], name].concat()))
}

fn verify_path(path: &Path, uid: u32) -> Result<File, Unwritable> {
    if !path.is_absolute() {
        return Err(Unwritable::Relative);
    }
    // O_PATH opens the file without opening what it stands for, a symbolic link itself with O_NOFOLLOW (open(2)).
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let metadata = file.metadata()?;
    match metadata.uid() {
        _ if !metadata.file_type().is_socket() => Err(Unwritable::NotASocket),
        owner if owner != uid => Err(Unwritable::NotOwned(owner)),
        _ => Ok(file),
    }
}

/// A sending socket for one Unix datagram peer. What the peer has not read is charged to this socket alone, and since it is
/// connected, the poller tells truly when there is room again ([`Interest::ReadWrite`](crate::net::poller::Interest)).
///
/// It has no name, so the peer sees an unnamed sender. A peer that has connected its own socket to ours takes
/// datagrams from that one only; for such a peer there is no other socket, and `connect` says EPERM. The kernel does not
/// bound the queue of such a peer either, but by the shared socket's send buffer (unix_dgram_sendmsg): one that does not read
/// could fill it. [`FlowControl`](super::FlowControl) sees that it does not. If many such peers have filled it all the same,
/// whoever has not connected is still reached, by a socket of its own.
#[derive(Debug)]
pub struct PeerSocket {
    socket: Socket,
}

impl PeerSocket {
    /// A socket that sends datagrams of at most `largest` bytes to `peer`.
    pub fn connect(peer: &UnixPeer, largest: usize) -> Result<PeerSocket, Trouble> {
        let connect = || {
            let socket = Socket::new(Domain::UNIX, Type::DGRAM.cloexec().nonblocking(), None)?;
            socket.set_send_buffer_size(largest.max(PEER_BUFFER))?;
            socket.connect(&peer.address)?;
            Ok(PeerSocket { socket })
        };
        connect().map_err(|error: io::Error| Trouble::of_unix(error.raw_os_error().unwrap_or(libc::EINVAL)))
    }

    /// Whether the peer has read everything that was sent over it: until then, what it has not read is charged to this
    /// socket, or to nobody once this socket is closed.
    pub fn is_drained(&self) -> bool {
        sys::unsent(self).is_ok_and(|bytes| bytes == 0)
    }

    /// Sends a run of datagrams of `size` bytes each: how many went, or what is wrong with the first.
    pub fn send_run(&self, run: &[u8], size: usize) -> Result<usize, Trouble> {
        if run.len() <= size {
            return self.send(&[IoSlice::new(run)]).map(|()| 1);
        }
        loop {
            return match sys::send::send_run(&self.socket, run, size).map_err(|error| error.raw_os_error()) {
                Ok(count) => Ok(count),
                Err(Some(libc::EINTR)) => continue,
                Err(errno) => Err(Trouble::of_unix(errno.unwrap_or(libc::EINVAL))),
            };
        }
    }

    /// Sends one datagram that is made of these slices.
    pub fn send(&self, slices: &[IoSlice<'_>]) -> Result<(), Trouble> {
        loop {
            return match sys::send::send(&self.socket, slices).map_err(|error| error.raw_os_error()) {
                Ok(()) => Ok(()),
                Err(Some(libc::EINTR)) => continue,
                Err(errno) => Err(Trouble::of_unix(errno.unwrap_or(libc::EINVAL))),
            };
        }
    }
}

impl AsFd for PeerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
