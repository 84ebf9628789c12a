//! Outgoing datagrams, collected without copying and sent with as few system calls as possible. An error of one peer
//! never delays messages to others.

use std::fmt;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::Range;

use socket2::SockAddr;

use super::errno::{RunError, SendError};
use super::inbox::LocalAddress;
use super::socket::{DatagramSocket, Family};
use super::unix_peer::UnixPeer;
use crate::net::sys::control::Control;
use crate::net::sys::send::{Headers, OutgoingMessage, Prepared, bytes_of};

/// The most datagrams of one run (UDP_MAX_SEGMENTS of kernels up to 6.8; later ones allow more).
const MAX_SEGMENTS: usize = 64;

/// The most bytes of one run: the kernel first builds it as one UDP packet over IPv4.
const MAX_RUN: usize = 65_507;

/// Where a message is sent.
#[derive(Debug, Clone, Copy)]
pub enum Destination<'p> {
    /// A UDP address; a dual-stack socket accepts IPv4 addresses as they are.
    Inet(SocketAddr),
    /// A verified Unix socket.
    Unix(&'p UnixPeer),
}

/// The outcome of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendOutcome {
    /// How many of its datagrams were sent, from the first on. More than one only if it was a run.
    pub sent: usize,
    /// Why the rest was not sent. Messages that were not tried, because an earlier one to the same peer failed or
    /// because the socket is full, have that error.
    pub error: Option<SendError>,
}

/// The memory of a batch, which can be reused for the next one.
#[derive(Default)]
pub struct BatchBuffer {
    names: Vec<SockAddr>,
    parts: Vec<IoSlice<'static>>,
    items: Vec<BatchItem>,
    headers: Headers,
    outcomes: Vec<SendOutcome>,
}

/// A datagram or a run of datagrams, which is sent with one message header.
#[derive(Clone)]
struct BatchItem {
    /// Index of its message in `outcomes`.
    message: usize,
    /// Index into `names`.
    name: usize,
    /// Range of the batch's parts.
    parts: Range<usize>,
    bytes: usize,
    /// The size of all datagrams of a run, except the last; 0 for a single datagram.
    segment: u16,
    source: Option<LocalAddress>,
    control: Control,
}

/// How an attempt to send the prepared items has ended.
#[derive(PartialEq, Eq)]
enum Attempt {
    /// All items have an outcome.
    Complete,
    /// The kernel refuses the next item as a run: its datagrams have to be sent one by one.
    RunRefused,
}

/// Messages that one socket is to send, made of bytes that live for `'d`.
#[must_use = "nothing is sent before `send`"]
pub struct Batch<'s, 'b, 'd> {
    socket: &'s DatagramSocket,
    buffer: &'b mut BatchBuffer,
    parts: Vec<IoSlice<'d>>,
}

impl BatchBuffer {
    /// An empty buffer. It grows to the size of the largest batch.
    pub fn new() -> BatchBuffer {
        BatchBuffer::default()
    }
}

impl fmt::Debug for BatchBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBuffer").field("outcomes", &self.outcomes).finish_non_exhaustive()
    }
}

impl BatchItem {
    fn datagrams(&self) -> usize {
        if self.segment == 0 { 1 } else { self.bytes.div_ceil(self.segment.into()) }
    }

    fn set_control(&mut self, family: Family) {
        self.control = Control::EMPTY;
        if let Some(LocalAddress { ip, interface }) = self.source
            && !ip.is_unspecified()
        {
            // Only a link-local address needs an interface. Otherwise the routing table chooses one, which may differ
            // from the interface where the datagram arrived.
            let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            self.control.set_source(ip, if link_local { interface } else { 0 }, family == Family::Ipv6);
        }
        if self.segment != 0 {
            self.control.set_segment_size(self.segment);
        }
    }
}

impl DatagramSocket {
    /// Starts a batch of messages to send.
    pub fn batch<'s, 'b, 'd>(&'s self, buffer: &'b mut BatchBuffer) -> Batch<'s, 'b, 'd> {
        buffer.names.clear();
        buffer.items.clear();
        buffer.outcomes.clear();
        let parts = std::mem::take(&mut buffer.parts);
        Batch { socket: self, buffer, parts }
    }
}

impl<'b, 'd> Batch<'_, 'b, 'd> {
    /// Adds a message: the bytes of these slices, one after the other. It is sent from `source`, if given.
    ///
    /// With a `segment` it is a run of datagrams of this many bytes each, except the last, which may be shorter. A
    /// datagram can be made of at most 1,024 slices (UIO_MAXIOV), and so can a run of 64 datagrams.
    pub fn push(
        &mut self,
        to: Destination<'_>,
        source: Option<LocalAddress>,
        slices: impl IntoIterator<Item = IoSlice<'d>>,
        segment: Option<NonZeroU16>,
    ) {
        let BatchBuffer { names, items, outcomes, .. } = &mut *self.buffer;
        let family = self.socket.family;
        let start = self.parts.len();
        self.parts.extend(slices);
        let parts = start..self.parts.len();
        let bytes = self.parts[start..].iter().map(|part| part.len()).sum();
        names.push(match to {
            Destination::Unix(peer) => peer.address.clone(),
            Destination::Inet(address) if family == Family::Ipv6 => mapped(address).into(),
            Destination::Inet(address) => address.into(),
        });
        let source = source.filter(|_| family != Family::Unix);
        let (message, name) = (outcomes.len(), names.len() - 1);
        outcomes.push(SendOutcome::default());
        let mut item = BatchItem { message, name, parts, bytes, segment: 0, source, control: Control::EMPTY };
        item.set_control(family);
        match segment.map(|segment| usize::from(segment.get())) {
            Some(segment) if segment < bytes => {
                let run = (MAX_RUN / segment).clamp(1, MAX_SEGMENTS);
                let offload = self.socket.offloads() && run > 1;
                let chunk = if offload { run * segment } else { segment };
                split(&mut self.parts, &item, chunk, |mut piece| {
                    if offload && piece.bytes > segment {
                        piece.segment = segment as u16;
                        piece.set_control(family);
                    }
                    items.push(piece);
                });
            }
            _ => items.push(item),
        }
    }

    /// The number of messages in the batch.
    pub fn len(&self) -> usize {
        self.buffer.outcomes.len()
    }

    /// Whether the batch has no message.
    pub fn is_empty(&self) -> bool {
        self.buffer.outcomes.is_empty()
    }

    /// Sends as much as can be sent now, in order, and returns the outcome of each message. Only a full UDP socket and
    /// a lack of memory end the batch; after any other error, only later messages to the same address are skipped.
    pub fn send(self) -> &'b [SendOutcome] {
        let Batch { socket, buffer, mut parts } = self;
        let BatchBuffer { names, items, headers, outcomes, .. } = &mut *buffer;
        let mut next = 0;
        while next < items.len() {
            let messages = items.iter().map(|item| {
                let parts = &parts[item.parts.clone()];
                OutgoingMessage { to: &names[item.name], parts, control: &item.control }
            });
            let mut prepared = headers.prepare(messages);
            if attempt(socket, &mut prepared, names, items, outcomes, &mut next) == Attempt::RunRefused {
                let mut singles = Vec::new();
                let run = items[next].clone();
                split(&mut parts, &run, run.segment.into(), |mut piece| {
                    piece.set_control(socket.family);
                    singles.push(piece);
                });
                items.splice(next..=next, singles);
            }
        }
        buffer.parts = recycle(parts);
        &buffer.outcomes
    }
}

/// Sends items from `next` on, and advances `next`, until all items have an outcome or the kernel refuses a run.
fn attempt(
    socket: &DatagramSocket,
    prepared: &mut Prepared<'_>,
    names: &[SockAddr],
    items: &[BatchItem],
    outcomes: &mut [SendOutcome],
    next: &mut usize,
) -> Attempt {
    let mut retried = false;
    while *next < items.len() {
        let errno = match socket.transmit(prepared, *next) {
            Ok(count) => {
                for item in &items[*next..*next + count] {
                    outcomes[item.message].sent += item.datagrams();
                }
                *next += count;
                retried = false;
                continue;
            }
            Err(libc::EINTR) => continue,
            Err(errno) => errno,
        };
        let item = &items[*next];
        if item.segment != 0 && RunError::of(errno) != RunError::Other {
            if RunError::of(errno) == RunError::Offload {
                socket.stop_offloading();
            }
            return Attempt::RunRefused;
        }
        let unix = socket.family == Family::Unix;
        let error = if unix { SendError::of_unix(errno) } else { SendError::of_udp(errno) };
        // A pending error of the whole socket (left by a receive, or by ICMP on an inherited socket with IP_RECVERR) is
        // reported by the next call for any peer, which clears it. If the error occurs again, it is this peer's own.
        if matches!(error, SendError::Unreachable(_)) && !unix && !std::mem::replace(&mut retried, true) {
            continue;
        }
        retried = false;
        let end = match error {
            // A smaller message may still be sent.
            SendError::TooLarge => end_of(items, *next, |other| other.message == item.message),
            // Over a Unix socket, the same error may mean that the receiver's queue is full. The kernel does not report
            // which of the two is full.
            SendError::Full if !unix => items.len(),
            SendError::NoMemory => items.len(),
            // A later message must not overtake an earlier one to the same peer.
            _ => end_of(items, *next, |other| other.message == item.message || names[other.name] == names[item.name]),
        };
        for item in &items[*next..end] {
            outcomes[item.message].error.get_or_insert(error);
        }
        *next = end;
    }
    Attempt::Complete
}

/// The end of the longest sequence of items from `first` on that satisfy `same`.
fn end_of(items: &[BatchItem], first: usize, same: impl Fn(&BatchItem) -> bool) -> usize {
    items[first..].iter().position(|item| !same(item)).map_or(items.len(), |count| first + count)
}

/// Splits an item into items of `chunk` bytes each, and a last one with the rest.
fn split<'d>(parts: &mut Vec<IoSlice<'d>>, item: &BatchItem, chunk: usize, mut each: impl FnMut(BatchItem)) {
    let single = |parts: Range<usize>, bytes| BatchItem { parts, bytes, segment: 0, ..item.clone() };
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

/// An address in the form that an IPv6 socket accepts.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        v6 => v6,
    }
}

/// Empties a vector, so that it can hold slices of another lifetime. The standard library reuses its memory.
fn recycle(mut parts: Vec<IoSlice<'_>>) -> Vec<IoSlice<'static>> {
    parts.clear();
    parts.into_iter().map(|_| IoSlice::new(&[])).collect()
}
