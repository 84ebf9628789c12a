//! Asks the kernel which peers have read everything. One answer covers all Unix sockets (sock_diag(7),
//! linux/unix_diag.h). Requests and answers are encoded and decoded here as plain bytes, which needs neither a crate
//! nor unsafe code.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use socket2::{Domain, Protocol, Socket, Type};
use upcall_wire::address::UnixName;

use crate::net::sys::receive::unix_name;

/// SOCK_DIAG_BY_FAMILY (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;

/// UDIAG_SHOW_NAME, UDIAG_SHOW_PEER and UDIAG_SHOW_RQLEN, and the attributes that they request.
const SHOW: u32 = 0x01 | 0x04 | 0x10;
const NAME: u16 = 0;
const PEER: u16 = 2;
const QUEUES: u16 = 4;

/// The bytes of a message's header (nlmsghdr), of the part before its attributes (unix_diag_msg), and of an attribute's
/// header.
const HEADER: usize = 16;
const SOCKET: usize = 16;
const ATTRIBUTE: usize = 4;

/// The most bytes that the kernel sends in one message (netlink_dump).
const ROOM: usize = 32 * 1024;

/// The state of a socket that accepts datagrams from ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PeerQueue {
    /// There are datagrams in its queue. An empty datagram at the head hides those behind it.
    pub(super) unread: bool,
    /// It is connected to ours, and accepts datagrams from no other.
    pub(super) connected: bool,
}

/// A netlink socket for requests about Unix sockets.
#[derive(Debug)]
pub(super) struct UnixDiag {
    netlink: Socket,
    /// The inode number of our socket.
    ours: u32,
    /// The number of the last request, which its answers repeat.
    sequence: u32,
    buffer: Vec<u8>,
}

impl UnixDiag {
    /// Opens one for the peers of this socket. Fails if the kernel, or a sandbox, does not provide sock_diag.
    pub(super) fn open(ours: impl AsFd) -> io::Result<UnixDiag> {
        let kind = Type::from(libc::SOCK_RAW).nonblocking().cloexec();
        let protocol = Protocol::from(libc::NETLINK_SOCK_DIAG);
        let netlink = Socket::new(Domain::from(libc::AF_NETLINK), kind, Some(protocol))?;
        // The kernel numbers sockets with 32 bits, even where an inode number has more.
        let ours = File::from(ours.as_fd().try_clone_to_owned()?).metadata()?.ino() as u32;
        Ok(UnixDiag { netlink, ours, sequence: 0, buffer: vec![0; ROOM] })
    }

    /// The queues of all named sockets that accept datagrams from ours. If several sockets have the same name, such as
    /// an unlinked one and its successor, the name counts as drained only if all of them are. Sockets in other network
    /// namespaces are missing.
    pub(super) fn queues(&mut self) -> io::Result<HashMap<UnixName, PeerQueue>> {
        self.sequence = self.sequence.wrapping_add(1);
        self.netlink.send(&request(self.sequence))?;
        let mut found = HashMap::new();
        loop {
            // This does not block: the kernel writes the first part before the request returns, and each further part
            // when the one before it is read.
            let count = (&self.netlink).read(&mut self.buffer)?;
            let mut rest = &self.buffer[..count];
            while let Some((header, body, next)) = message(rest) {
                rest = next;
                match u16_at(header, 4).map(i32::from) {
                    _ if u32_at(header, 8) != Some(self.sequence) => {}
                    Some(libc::NLMSG_DONE) => return Ok(found),
                    Some(libc::NLMSG_ERROR) => {
                        let errno = u32_at(body, 0).map_or(libc::EPROTO, |negated| (negated as i32).wrapping_neg());
                        return Err(io::Error::from_raw_os_error(errno));
                    }
                    _ => {
                        if let Some((name, queue)) = peer_queue(body, self.ours) {
                            let entry: &mut PeerQueue = found.entry(name).or_default();
                            entry.unread |= queue.unread;
                            entry.connected |= queue.connected;
                        }
                    }
                }
            }
        }
    }
}

/// A request for all Unix sockets (unix_diag_req).
fn request(sequence: u32) -> Vec<u8> {
    let any = u32::MAX;
    let length = (HEADER + 24) as u32;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    // The family, a protocol (none), and two bytes of padding; states, a socket's number, the attributes to show, a
    // cookie.
    bytes.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    for word in [any, 0, SHOW, 0, 0] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// Splits the first message off: its header, its body, and the rest.
fn message(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let body = bytes.get(HEADER..length)?;
    Some((&bytes[..HEADER], body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The name and the queue of a socket; `None` if it has no name, or accepts no datagrams from `ours`.
fn peer_queue(body: &[u8], ours: u32) -> Option<(UnixName, PeerQueue)> {
    if i32::from(*body.get(1)?) != libc::SOCK_DGRAM {
        return None;
    }
    let (mut name, mut queue) = (None, PeerQueue::default());
    let mut rest = body.get(SOCKET..)?;
    while let Some(length) = u16_at(rest, 0).map(usize::from).filter(|length| *length >= ATTRIBUTE) {
        let value = rest.get(ATTRIBUTE..length)?;
        match u16_at(rest, 2)? {
            NAME => name = unix_name(value),
            // A socket that is connected to another one accepts nothing from ours.
            PEER if u32_at(value, 0)? != ours => return None,
            PEER => queue.connected = true,
            QUEUES => queue.unread = u32_at(value, 0)? > 0,
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((name?, queue))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}
