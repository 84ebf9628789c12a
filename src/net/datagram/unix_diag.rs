//! Who has read everything: the kernel tells of all Unix sockets at once (sock_diag(7), linux/unix_diag.h). Requests and
//! answers are plain bytes here, for which no crate is needed, and no unsafe code.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use socket2::{Domain, Protocol, Socket, Type};

use crate::net::sys::receive::unix_name;
use upcall_wire::address::UnixName;

/// SOCK_DIAG_BY_FAMILY (linux/sock_diag.h).
const BY_FAMILY: u16 = 20;

/// UDIAG_SHOW_NAME, UDIAG_SHOW_PEER and UDIAG_SHOW_RQLEN, and the attributes that they ask for.
const SHOW: u32 = 0x01 | 0x04 | 0x10;
const NAME: u16 = 0;
const PEER: u16 = 2;
const QUEUES: u16 = 4;

/// The bytes of a message's header (nlmsghdr), of what precedes its attributes (unix_diag_msg), and of an attribute's header.
const HEADER: usize = 16;
const SOCKET: usize = 16;
const ATTRIBUTE: usize = 4;

/// The kernel sends no more at a time (netlink_dump).
const ROOM: usize = 32 * 1024;

/// What the kernel says of a socket that takes datagrams from ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Queue {
    /// Something waits in its queue. An empty datagram at the head hides what is behind it.
    pub(super) unread: bool,
    /// It is connected to ours, and takes datagrams from no other.
    pub(super) connected: bool,
}

/// Asks the kernel.
#[derive(Debug)]
pub(super) struct Diagnosis {
    netlink: Socket,
    /// The number of our socket.
    ours: u32,
    /// Of the last question, by which its answers are known.
    sequence: u32,
    buffer: Vec<u8>,
}

impl Diagnosis {
    /// For the peers of this socket. Fails where the kernel, or the sandbox that we are in, has no such thing.
    pub(super) fn open(ours: impl AsFd) -> io::Result<Diagnosis> {
        let kind = Type::from(libc::SOCK_RAW).nonblocking().cloexec();
        let protocol = Protocol::from(libc::NETLINK_SOCK_DIAG);
        let netlink = Socket::new(Domain::from(libc::AF_NETLINK), kind, Some(protocol))?;
        // The kernel numbers sockets with 32 bits, also where an inode has more.
        let ours = File::from(ours.as_fd().try_clone_to_owned()?).metadata()?.ino() as u32;
        Ok(Diagnosis { netlink, ours, sequence: 0, buffer: vec![0; ROOM] })
    }

    /// Every socket with a name that takes datagrams from ours. Where several have one name, as one that was unlinked and its
    /// successor may, none of them counts as having read everything unless all have. Sockets in other network namespaces
    /// are not there.
    pub(super) fn queues(&mut self) -> io::Result<HashMap<UnixName, Queue>> {
        self.sequence = self.sequence.wrapping_add(1);
        self.netlink.send(&request(self.sequence))?;
        let mut found = HashMap::new();
        loop {
            // The first part is there before the question has been sent, and the next one when that is taken.
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
                        if let Some((name, queue)) = socket(body, self.ours) {
                            let entry: &mut Queue = found.entry(name).or_default();
                            entry.unread |= queue.unread;
                            entry.connected |= queue.connected;
                        }
                    }
                }
            }
        }
    }
}

/// A question for every Unix socket there is (unix_diag_req).
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
    // The family, a protocol (none), and two bytes of padding; states, a socket's number, what to show, a cookie.
    bytes.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    for word in [any, 0, SHOW, 0, 0] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

/// The first message: its header, its body, and what is behind it.
fn message(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let body = bytes.get(HEADER..length)?;
    Some((&bytes[..HEADER], body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The name of a socket that takes datagrams from `ours`, and what is said of it.
fn socket(body: &[u8], ours: u32) -> Option<(UnixName, Queue)> {
    if i32::from(*body.get(1)?) != libc::SOCK_DGRAM {
        return None;
    }
    let (mut name, mut queue) = (None, Queue::default());
    let mut rest = body.get(SOCKET..)?;
    while let Some(length) = u16_at(rest, 0).map(usize::from).filter(|length| *length >= ATTRIBUTE) {
        let value = rest.get(ATTRIBUTE..length)?;
        match u16_at(rest, 2)? {
            NAME => name = unix_name(value),
            // Connected to another than ours, it takes nothing from us.
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
