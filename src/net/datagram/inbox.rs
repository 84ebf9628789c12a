//! Received datagrams: buffers made once, filled by one system call, read in place.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::bind::MARK;
use crate::net::sys::receive::{Name, Slots};
use upcall_wire::address::{Credentials, UnixName};

/// What came of receiving.
#[derive(Debug)]
pub enum Received {
    /// So many datagrams are in the inbox. There may be more.
    Datagrams(usize),
    /// Nothing for now; the poller says when there is.
    Drained,
    /// Trouble with a peer to whom something was sent before (ICMP): not a reason to stop. Receive again.
    Elsewhere(io::Error),
    /// The kernel has no memory for now; nobody says when it has.
    Starved,
    /// The socket is not one that can be received from.
    Broken(io::Error),
}

/// An address of this machine that a datagram was sent to, from which its answer is to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocalAddress {
    /// The address; never an IPv4-mapped one.
    pub ip: IpAddr,
    /// The index of the interface by which it came in (netdevice(7)).
    pub interface: u32,
}

/// Who sent a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// Over UDP.
    Inet {
        /// The source address; IPv4-mapped IPv6 addresses are unmapped.
        peer: SocketAddr,
        /// What the datagram was addressed to, on a socket that is bound to a wildcard address. None if that is a group.
        local: Option<LocalAddress>,
    },
    /// From a Unix socket.
    Unix {
        /// What it is bound to; `None` if to nothing, so that it cannot be answered. A path is the sender's: relative,
        /// in another namespace, or somebody else's. See [`UnixPeer`](super::UnixPeer).
        name: Option<UnixName>,
        /// Who sent it, as the kernel vouches for it (SCM_CREDENTIALS, unix(7)).
        credentials: Option<Credentials>,
    },
}

/// A received datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram<'i> {
    /// What it holds; the beginning of it, if it is truncated.
    pub bytes: &'i [u8],
    /// It is larger than the inbox allows.
    pub truncated: bool,
    /// It was sent by a socket like this one: it is an upcall, not an input. Known of UDP only, and only where no router
    /// changes the mark.
    pub looped: bool,
    /// Who sent it.
    pub from: Sender,
}

/// Room for the datagrams of one system call.
pub struct Inbox {
    pub(super) slots: Slots,
    largest: usize,
}

impl Inbox {
    /// Room for so many datagrams of at most `largest` bytes each. It reserves `count * (largest + 1)` bytes (and 300 for
    /// each datagram's address), of which only the pages that were ever written to take memory: with 64 of 60 KiB, one
    /// datagram at a time costs 60 KiB at most, and 3.8 MiB is the worst case.
    pub fn new(count: usize, largest: usize) -> Inbox {
        // A byte more than is allowed: what fills it is too large, whatever the kernel says of it.
        Inbox { slots: Slots::new(count, largest + 1), largest }
    }

    /// The largest datagram that is not truncated, in bytes.
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// How many datagrams it has room for.
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// The datagrams of the last call, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        (0..self.slots.filled()).map(|index| {
            let (bytes, cut) = self.slots.bytes(index);
            let truncated = cut || bytes.len() > self.largest;
            let ancillary = self.slots.ancillary(index);
            let from = match self.slots.sender(index) {
                Name::Inet(peer) => {
                    let local = ancillary.local.map(|(ip, interface)| LocalAddress { ip, interface });
                    Sender::Inet { peer, local }
                }
                Name::Unix(name) => Sender::Unix { name, credentials: ancillary.credentials },
            };
            // The lower two bits are for congestion (RFC 3168).
            let looped = ancillary.services & !3 == MARK;
            Datagram { bytes: &bytes[..bytes.len().min(self.largest)], truncated, looped, from }
        })
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inbox { slots, largest } = self;
        f.debug_struct("Inbox").field("filled", &slots.filled()).field("largest", largest).finish_non_exhaustive()
    }
}
