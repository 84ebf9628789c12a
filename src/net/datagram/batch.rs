//! Datagrams to be sent: gathered without copying, sent by as few system calls as may be, and what became of each. One peer's
//! trouble costs nobody else a message.

use std::fmt;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::Range;

use socket2::SockAddr;

use super::errno::{RunTrouble, Trouble};
use super::{DatagramSocket, Kind, LocalAddress, UnixPeer};
use crate::net::sys::control::Control;
use crate::net::sys::send::{Headers, Outgoing, Prepared, bytes_of};

/// The most datagrams of one run (UDP_MAX_SEGMENTS of the kernels up to 6.8; more since).
const MAX_SEGMENTS: usize = 64;

/// The most bytes of one run: it is built as one UDP packet over IPv4 at first.
const MAX_RUN: usize = 65_507;

/// Where a message goes.
#[derive(Debug, Clone, Copy)]
pub enum Destination<'p> {
    /// Over UDP; a dual-stack socket takes IPv4 addresses as they are.
    Inet(SocketAddr),
    /// To a Unix socket that may be written to.
    Unix(&'p UnixPeer),
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fate {
    /// How many of its datagrams were sent, from the first on. More than one only if it was a run.
    pub sent: usize,
    /// Why the rest was not. What was not tried, since something before it to the same peer had failed, or the
    /// socket is full, has that reason.
    pub trouble: Option<Trouble>,
}

/// The memory for batches, to be used again.
#[derive(Default)]
pub struct Outbox {
    names: Vec<SockAddr>,
    parts: Vec<IoSlice<'static>>,
    items: Vec<Item>,
    headers: Headers,
    fates: Vec<Fate>,
}

/// What one message header stands for: a datagram, or a run of them.
#[derive(Clone)]
struct Item {
    message: usize,
    /// Of `names`.
    name: usize,
    /// Of the parts.
    parts: Range<usize>,
    bytes: usize,
    /// The size of all datagrams of a run but the last; 0 for a single datagram.
    segment: u16,
    source: Option<LocalAddress>,
    control: Control,
}

/// Messages that one socket is to send, made of bytes that live for `'d`.
#[must_use = "nothing is sent before `send`"]
pub struct Batch<'s, 'o, 'd> {
    socket: &'s DatagramSocket,
    outbox: &'o mut Outbox,
    parts: Vec<IoSlice<'d>>,
}

impl Outbox {
    /// Memory for batches; it grows to what the largest has needed.
    pub fn new() -> Outbox {
        Outbox::default()
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("fates", &self.fates).finish_non_exhaustive()
    }
}

impl Item {
    fn datagrams(&self) -> usize {
        if self.segment == 0 { 1 } else { self.bytes.div_ceil(self.segment.into()) }
    }

    fn set_control(&mut self, kind: Kind) {
        self.control = Control::EMPTY;
        if let Some(LocalAddress { ip, interface }) = self.source
            && !ip.is_unspecified()
        {
            // Elsewhere the way back is for the routing table to find: it need not be the interface by which the
            // datagram came. A link-local address means nothing without one.
            let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            self.control.leave_from(ip, if link_local { interface } else { 0 }, kind == Kind::Ipv6);
        }
        if self.segment != 0 {
            self.control.segments_of(self.segment);
        }
    }
}

impl<'s, 'o, 'd> Batch<'s, 'o, 'd> {
    pub(super) fn new(socket: &'s DatagramSocket, outbox: &'o mut Outbox) -> Batch<'s, 'o, 'd> {
        outbox.names.clear();
        outbox.items.clear();
        outbox.fates.clear();
        let parts = std::mem::take(&mut outbox.parts);
        Batch { socket, outbox, parts }
    }

    /// Adds a message: the bytes of these slices, one after the other. It leaves from `source`, if there is one. With a
    /// `segment` it is a run of datagrams, each of them that many bytes long, but for the last, which may be shorter. A
    /// datagram can be made of 1,024 slices at most (UIO_MAXIOV), a run of 64 datagrams likewise.
    pub fn push(
        &mut self,
        to: Destination<'_>,
        source: Option<LocalAddress>,
        slices: impl IntoIterator<Item = IoSlice<'d>>,
        segment: Option<NonZeroU16>,
    ) {
        let Outbox { names, items, fates, .. } = &mut *self.outbox;
        let start = self.parts.len();
        self.parts.extend(slices);
        let parts = start..self.parts.len();
        let bytes = self.parts[start..].iter().map(|part| part.len()).sum();
        names.push(match to {
            Destination::Unix(peer) => peer.address.clone(),
            Destination::Inet(address) if self.socket.kind == Kind::Ipv6 => mapped(address).into(),
            Destination::Inet(address) => address.into(),
        });
        let source = source.filter(|_| self.socket.kind != Kind::Unix);
        let (message, name) = (fates.len(), names.len() - 1);
        fates.push(Fate::default());
        let mut item = Item { message, name, parts, bytes, segment: 0, source, control: Control::EMPTY };
        item.set_control(self.socket.kind);
        match segment.map(|segment| usize::from(segment.get())) {
            Some(segment) if segment < bytes => {
                let run = (MAX_RUN / segment).clamp(1, MAX_SEGMENTS);
                let offload = self.socket.offloads() && run > 1;
                let chunk = if offload { run * segment } else { segment };
                cut(&mut self.parts, &item, chunk, |mut piece| {
                    if offload && piece.bytes > segment {
                        piece.segment = segment as u16;
                        piece.set_control(self.socket.kind);
                    }
                    items.push(piece);
                });
            }
            _ => items.push(item),
        }
    }

    /// How many messages were added.
    pub fn len(&self) -> usize {
        self.outbox.fates.len()
    }

    /// Whether none was added.
    pub fn is_empty(&self) -> bool {
        self.outbox.fates.is_empty()
    }

    /// Sends what can be sent now, in order, and tells what became of each message. Only a full UDP socket and a lack
    /// of memory stop it; other trouble is passed over together with the messages that follow to the same address.
    pub fn send(self) -> &'o [Fate] {
        let Batch { socket, outbox, mut parts } = self;
        let Outbox { names, items, headers, fates, .. } = &mut *outbox;
        let mut next = 0;
        while next < items.len() {
            let messages = items.iter().map(|item| {
                let parts = &parts[item.parts.clone()];
                Outgoing { to: &names[item.name], parts, control: &item.control }
            });
            let mut prepared = headers.prepare(messages);
            let refused = go(socket, &mut prepared, names, items, fates, &mut next);
            if refused {
                let mut singles = Vec::new();
                let run = items[next].clone();
                cut(&mut parts, &run, run.segment.into(), |mut piece| {
                    piece.set_control(socket.kind);
                    singles.push(piece);
                });
                items.splice(next..=next, singles);
            }
        }
        outbox.parts = recycle(parts);
        &outbox.fates
    }
}

/// Sends on until all is dealt with, or until a run is refused that is to be sent singly: true.
fn go(
    socket: &DatagramSocket,
    prepared: &mut Prepared<'_>,
    names: &[SockAddr],
    items: &[Item],
    fates: &mut [Fate],
    next: &mut usize,
) -> bool {
    let mut retried = false;
    while *next < items.len() {
        let errno = match socket.transmit(prepared, *next) {
            Ok(count) => {
                for item in &items[*next..*next + count] {
                    fates[item.message].sent += item.datagrams();
                }
                *next += count;
                retried = false;
                continue;
            }
            Err(libc::EINTR) => continue,
            Err(errno) => errno,
        };
        let item = &items[*next];
        if item.segment != 0 && RunTrouble::of(errno) != RunTrouble::Other {
            if RunTrouble::of(errno) == RunTrouble::Offload {
                socket.stop_offloading();
            }
            return true;
        }
        let unix = socket.kind == Kind::Unix;
        let trouble = if unix { Trouble::of_unix(errno) } else { Trouble::of_udp(errno) };
        // An error that is pending for the whole socket (left by a receive, or by ICMP on a socket that was handed over
        // with IP_RECVERR) is reported to whoever comes next, and is gone then. It is the peer's own if it comes again.
        if matches!(trouble, Trouble::Unreachable(_)) && !unix && !std::mem::replace(&mut retried, true) {
            continue;
        }
        retried = false;
        let end = match trouble {
            // The next, smaller one may go.
            Trouble::TooLarge => end_of(items, *next, |other| other.message == item.message),
            // A Unix socket says so for a receiver whose queue is full, too, and does not say which it is.
            Trouble::Full if !unix => items.len(),
            Trouble::Starved => items.len(),
            // Never a later message of a peer before an earlier one.
            _ => end_of(items, *next, |other| other.message == item.message || names[other.name] == names[item.name]),
        };
        for item in &items[*next..end] {
            fates[item.message].trouble.get_or_insert(trouble);
        }
        *next = end;
    }
    false
}

/// The end of the items from `first` on that are of one kind.
fn end_of(items: &[Item], first: usize, same: impl Fn(&Item) -> bool) -> usize {
    items[first..].iter().position(|item| !same(item)).map_or(items.len(), |count| first + count)
}

/// Cuts an item into single ones of `chunk` bytes, and a rest.
fn cut<'d>(parts: &mut Vec<IoSlice<'d>>, item: &Item, chunk: usize, mut each: impl FnMut(Item)) {
    let single = |parts: Range<usize>, bytes| Item { parts, bytes, segment: 0, ..item.clone() };
    if item.bytes <= chunk {
        return each(single(item.parts.clone(), item.bytes));
    }
    let (mut start, mut bytes) = (parts.len(), 0);
    for index in item.parts.clone() {
        let mut rest = bytes_of(&parts[index]);
        while !rest.is_empty() {
            let (part, more) = rest.split_at(rest.len().min(chunk - bytes));
            parts.push(IoSlice::new(part));
            bytes += part.len();
            rest = more;
            if bytes == chunk {
                each(single(start..parts.len(), bytes));
                (start, bytes) = (parts.len(), 0);
            }
        }
    }
    if bytes > 0 {
        each(single(start..parts.len(), bytes));
    }
}

/// An address as an IPv6 socket takes it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        v6 => v6,
    }
}

/// Empties a vector, so that it can be lent to bytes with another life. The standard library keeps its memory.
fn recycle(mut parts: Vec<IoSlice<'_>>) -> Vec<IoSlice<'static>> {
    parts.clear();
    parts.into_iter().map(|_| IoSlice::new(&[])).collect()
}
