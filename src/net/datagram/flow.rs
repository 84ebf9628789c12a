//! Flow control on a shared Unix socket: limits how much each peer may leave unread of the datagrams from that socket.
//!
//! Unread datagrams are charged to the sending socket's buffer, and while that is full, nothing can be sent to any peer
//! over it. The kernel limits the number of datagrams that are queued for a peer (net.unix.max_dgram_qlen), but not
//! their size. For a peer that has connected its socket to ours, and so accepts datagrams from no other socket, it does
//! not even limit their number (unix_dgram_sendmsg).
//!
//! Therefore each peer has a credit. Datagrams to a peer count against its credit until it is known to have read all of
//! them. If nothing is charged any more, all peers have; otherwise the kernel is asked about each peer. Unread
//! datagrams cannot be taken back: they are charged until the peer reads them or closes its socket. So the size of the
//! buffer limits how many peers may stall.

use std::collections::HashMap;
use std::io;
use std::mem;

use upcall_wire::address::UnixName;

use super::errno::SendError;
use super::socket::{BufferUsage, DatagramSocket};
use super::unix_diag::{PeerQueue, UnixDiag};
use super::unix_peer::UnixPeer;

/// The most that one peer may leave unread, in charged bytes. The smallest credit has room for ten small datagrams by
/// the estimate of [`charge`], which is as many as the kernel queues for one peer by default. A larger buffer allows
/// more, which saves requests to the kernel. A single datagram of any size is always allowed.
const LEAST_CREDIT: usize = 16 * 1024;
const MOST_CREDIT: usize = 64 * 1024;

/// The number of credits that a buffer is divided into.
const CREDITS: usize = 32;

/// The datagrams that were sent to one peer over the shared socket since it was last known to have read everything.
#[derive(Debug, Default)]
pub struct InFlight {
    /// The epoch in which that was. `None` for a new peer, which may have left and returned with datagrams unread.
    epoch: Option<u64>,
    /// An upper bound of the bytes that are charged for it.
    bytes: usize,
    /// The number of times in a row that it was granted nothing.
    refusals: u32,
}

/// The reason why a peer is granted nothing now: it has used up its credit and has unread datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stalled {
    /// A [`PeerSocket`](super::PeerSocket) would relieve the shared one.
    Unread,
    /// It has connected its socket to the shared one, and accepts datagrams from no other. No event reports when it has
    /// read.
    Connected,
}

/// The state of a shared Unix socket, for all of its peers together.
#[derive(Debug, Default)]
pub struct FlowControl {
    /// Counts the times at which no peer had anything unread.
    epoch: u64,
    /// The bytes that were charged for all unread datagrams at the last measurement.
    sending: usize,
    /// The size of the send buffer, in bytes; 0 until it is measured.
    send_buffer: usize,
    /// An upper bound of the charged bytes that were granted since the last measurement.
    granted: usize,
    /// The socket was found full, and half of its buffer has not been free since.
    full: bool,
    /// It was measured in this round.
    measured: bool,
    diagnostics: Diagnostics,
    error: Option<io::Error>,
    /// The kernel's last answer; discarded when something is sent.
    queues: Option<KnownQueues>,
}

/// Whether the kernel can be asked for the peers' queues.
#[derive(Debug, Default)]
enum Diagnostics {
    /// Not opened yet, or closed after an error.
    #[default]
    Closed,
    Open(UnixDiag),
    /// It cannot, so no peer is limited.
    Unavailable,
}

#[derive(Debug)]
struct KnownQueues {
    peers: HashMap<UnixName, PeerQueue>,
    /// The bytes that were charged when the queues were read. While the number is the same and nothing was sent, no
    /// peer has read anything.
    sending: usize,
    /// They were read in this round.
    is_new: bool,
}

/// The most that the kernel charges for a datagram of this size: its buffers are powers of two, or pages, and each has
/// a header (truesize; as measured on Linux 6.18: 768 for one byte, 8,448 for 4,000, 65,792 for 60 KiB).
const fn charge(bytes: usize) -> usize {
    bytes.saturating_mul(2).saturating_add(1024)
}

/// Whether another request may succeed after this error.
fn is_transient(error: &io::Error) -> bool {
    let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
    errno == libc::EINTR || matches!(SendError::of_unix(errno), SendError::NoMemory | SendError::Full)
}

impl InFlight {
    /// The number of times that the peer was granted nothing since it last was granted something.
    pub fn refusals(&self) -> u32 {
        self.refusals
    }
}

impl FlowControl {
    /// Starts a round of sending. Measurements of the last round may be out of date.
    pub fn begin_round(&mut self) {
        self.measured = false;
        if let Some(queues) = &mut self.queues {
            queues.is_new = false;
        }
    }

    /// Measures how much all peers together have left unread.
    pub fn measure(&mut self, socket: &DatagramSocket) {
        self.measured = true;
        // This does not fail on a socket. If it did, all datagrams would count as unread.
        let Ok(usage) = socket.buffer_usage() else { return };
        (self.sending, self.send_buffer, self.granted) = (usage.sending, usage.send_buffer, 0);
        if self.sending == 0 {
            self.epoch += 1;
        }
        self.full &= self.sending >= self.send_buffer / 2;
    }

    /// Records that there was no room for a datagram. If the shared socket is full, returns its usage, but only once
    /// until half of the buffer has been free.
    pub fn note_full(&mut self, socket: &DatagramSocket) -> Option<BufferUsage> {
        let usage = socket.buffer_usage().ok().filter(|usage| usage.sending >= usage.send_buffer)?;
        (!mem::replace(&mut self.full, true)).then_some(usage)
    }

    /// The number of datagrams of `size` bytes that may be sent to a peer in this round, at most `wanted`.
    pub fn grant(
        &mut self,
        socket: &DatagramSocket,
        peer: &UnixPeer,
        in_flight: &mut InFlight,
        wanted: usize,
        size: usize,
    ) -> Result<usize, Stalled> {
        if self.send_buffer == 0 {
            // Another process may have sent over an inherited socket.
            self.measure(socket);
        }
        self.update(in_flight);
        let mut allowance = self.allowance(in_flight, size);
        // Ask the kernel only once half of the credit is used: most peers have read everything long before that.
        if !self.measured && (allowance < wanted || in_flight.bytes > self.credit() / 2) {
            self.measure(socket);
            self.update(in_flight);
            allowance = self.allowance(in_flight, size);
        }
        if allowance == 0 {
            self.check_drained(socket, peer)
                .inspect_err(|_| in_flight.refusals = in_flight.refusals.saturating_add(1))?;
            in_flight.bytes = 0;
            allowance = self.allowance(in_flight, size);
        }
        in_flight.refusals = 0;
        let granted = allowance.min(wanted);
        self.granted = self.granted.saturating_add(charge(size).saturating_mul(granted));
        Ok(granted)
    }

    fn allowance(&self, in_flight: &InFlight, size: usize) -> usize {
        if self.is_unavailable() {
            return usize::MAX;
        }
        // The credit applies while half of the buffer is free. After that, a peer with unread datagrams gets nothing,
        // so that the other half serves many peers, even if many have used up their credit.
        let credit = if self.charged() < self.send_buffer / 2 { self.credit() } else { 0 };
        let datagrams = credit.saturating_sub(in_flight.bytes) / charge(size);
        if in_flight.bytes == 0 { datagrams.max(1) } else { datagrams }
    }

    fn credit(&self) -> usize {
        (self.send_buffer / CREDITS).clamp(LEAST_CREDIT, MOST_CREDIT)
    }

    /// An upper bound of the bytes that are charged for all peers.
    fn charged(&self) -> usize {
        self.sending.saturating_add(self.granted)
    }

    fn is_unavailable(&self) -> bool {
        matches!(self.diagnostics, Diagnostics::Unavailable)
    }

    fn update(&self, in_flight: &mut InFlight) {
        if in_flight.epoch != Some(self.epoch) {
            // A new peer may have returned, with datagrams unread.
            let unknown = in_flight.epoch.is_none() && self.charged() > 0;
            let bytes = if unknown { usize::MAX } else { 0 };
            *in_flight = InFlight { epoch: Some(self.epoch), bytes, ..*in_flight };
        }
    }

    /// Records datagrams that were sent to a peer.
    pub fn sent(&mut self, in_flight: &mut InFlight, count: usize, size: usize) {
        if count > 0 {
            self.update(in_flight);
            in_flight.bytes = in_flight.bytes.saturating_add(charge(size).saturating_mul(count));
            self.queues = None;
        }
    }

    /// Finds out whether a peer has read everything. One answer of the kernel covers all peers, and is valid until
    /// something is sent or read.
    fn check_drained(&mut self, socket: &DatagramSocket, peer: &UnixPeer) -> Result<(), Stalled> {
        if !self.is_known(peer) {
            self.request_queues(socket);
        }
        match self.queues.as_ref().and_then(|queues| queues.peers.get(peer.name())) {
            Some(PeerQueue { unread: false, .. }) => Ok(()),
            _ if self.is_unavailable() => Ok(()),
            Some(PeerQueue { connected: true, .. }) => Err(Stalled::Connected),
            _ => Err(Stalled::Unread),
        }
    }

    /// Whether the last answer is still valid, and covers this peer.
    fn is_known(&self, peer: &UnixPeer) -> bool {
        self.queues.as_ref().is_some_and(|queues| {
            queues.is_new || (queues.sending == self.sending && queues.peers.contains_key(peer.name()))
        })
    }

    fn request_queues(&mut self, socket: &DatagramSocket) {
        self.queues = None;
        let opened = match (socket.fault(), mem::take(&mut self.diagnostics)) {
            (Some(error), _) => Err(error),
            (None, Diagnostics::Open(diag)) => Ok(diag),
            (None, _) => UnixDiag::open(socket),
        };
        let answered = opened.and_then(|mut diag| {
            let peers = diag.queues()?;
            // Closed after an error, because unread parts of this answer would precede the next one.
            self.diagnostics = Diagnostics::Open(diag);
            Ok(peers)
        });
        match answered {
            Ok(peers) => self.queues = Some(KnownQueues { peers, sending: self.sending, is_new: true }),
            Err(error) if is_transient(&error) => {}
            Err(error) => {
                self.diagnostics = Diagnostics::Unavailable;
                self.error = Some(error);
            }
        }
    }

    /// The error because of which the kernel cannot be asked; returned only once. From then on, each peer may be sent
    /// as much as the kernel accepts.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }
}
