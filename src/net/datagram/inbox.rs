//! Received datagrams: buffers that are allocated once, filled by one system call, and read in place.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use upcall_wire::address::{Credentials, UnixName};

use super::bind::MARK;
use super::errno::ReceiveError;
use super::socket::DatagramSocket;
use crate::net::sys::receive::{Slots, SocketName};

/// The result of receiving.
#[derive(Debug)]
pub enum Received {
    /// This many datagrams are in the inbox. There may be more.
    Datagrams(usize),
    /// There is nothing to receive now. The poller reports when there is.
    Drained,
    /// An error of a peer that something was sent to before (ICMP). The socket still works; receive again.
    PeerError(io::Error),
    /// The kernel has no memory now. No event reports when it has, so the caller must retry.
    NoMemory,
    /// This socket cannot be received from.
    Broken(io::Error),
}

/// The address of this machine that a datagram was sent to; the answer is sent from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocalAddress {
    /// The address; never an IPv4-mapped one.
    pub ip: IpAddr,
    /// The index of the interface that it arrived on (netdevice(7)).
    pub interface: u32,
}

/// The source of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// UDP.
    Inet {
        /// The source address; an IPv4-mapped IPv6 address is given as IPv4.
        peer: SocketAddr,
        /// The destination of the datagram, on a socket that is bound to a wildcard address; `None` if it is a
        /// multicast address.
        local: Option<LocalAddress>,
    },
    /// A Unix socket.
    Unix {
        /// The name that the sender is bound to; `None` if it is not bound, so that it cannot be answered. A path is as
        /// the sender gave it: it may be relative, in another namespace, or another user's. See
        /// [`UnixPeer`](super::UnixPeer).
        name: Option<UnixName>,
        /// The sender's process, verified by the kernel (SCM_CREDENTIALS, unix(7)).
        credentials: Option<Credentials>,
    },
}

/// A received datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram<'i> {
    /// Its bytes; only the first ones if it is truncated.
    pub bytes: &'i [u8],
    /// It is larger than the inbox allows.
    pub truncated: bool,
    /// It carries the mark of a daemon's socket, so it is an upcall and not an input. Known only for UDP, and only if
    /// no router changes the mark.
    pub looped: bool,
    /// Where it came from.
    pub from: Sender,
}

/// Room for the datagrams of one system call.
pub struct Inbox {
    slots: Slots,
    largest: usize,
}

impl Inbox {
    /// Room for `count` datagrams of at most `largest` bytes each.
    ///
    /// It reserves `count * (largest + 1)` bytes of address space, and 300 bytes for the header of each datagram. Only
    /// pages that were written to occupy memory: 64 slots of 60 KiB need 60 KiB while datagrams arrive one at a time,
    /// and at most 3.8 MiB.
    pub fn new(count: usize, largest: usize) -> Inbox {
        // One byte more than allowed, so that a datagram that fills the slot is known to be too large.
        Inbox { slots: Slots::new(count, largest + 1), largest }
    }

    /// The largest datagram that is not truncated, in bytes.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// The most datagrams that it has room for.
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// The datagrams of the last call, in the order in which they arrived.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        (0..self.slots.filled()).map(|index| {
            let (bytes, cut) = self.slots.bytes(index);
            let truncated = cut || bytes.len() > self.largest;
            let ancillary = self.slots.ancillary(index);
            let from = match self.slots.sender(index) {
                SocketName::Inet(peer) => {
                    let local = ancillary.local.map(|(ip, interface)| LocalAddress { ip, interface });
                    Sender::Inet { peer, local }
                }
                SocketName::Unix(name) => Sender::Unix { name, credentials: ancillary.credentials },
            };
            // The lower two bits are for congestion notification (RFC 3168).
            let looped = ancillary.services & !3 == MARK;
            Datagram { bytes: &bytes[..bytes.len().min(self.largest)], truncated, looped, from }
        })
    }
}

impl DatagramSocket {
    /// Receives as many of the available datagrams as the inbox has room for, in one system call. Repeat it until the
    /// socket is drained: an error may have ended a short batch, and only the next call reports it.
    pub fn receive(&self, inbox: &mut Inbox) -> Received {
        loop {
            let error = match self.fault().map_or_else(|| inbox.slots.receive(&self.socket, self.control_room), Err) {
                Ok(count) => return Received::Datagrams(count),
                Err(error) => error,
            };
            return match ReceiveError::of(error.raw_os_error().unwrap_or(libc::EINVAL)) {
                ReceiveError::Interrupted => continue,
                ReceiveError::Drained => Received::Drained,
                ReceiveError::OfPeer => Received::PeerError(error),
                ReceiveError::NoMemory => Received::NoMemory,
                ReceiveError::Broken => Received::Broken(error),
            };
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inbox { slots, largest } = self;
        f.debug_struct("Inbox").field("filled", &slots.filled()).field("largest", largest).finish_non_exhaustive()
    }
}
