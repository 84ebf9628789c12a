//! Flow control on a shared Unix socket: how much each peer may have unread of what that socket has sent.
//!
//! Unread datagrams are charged to the sending socket's buffer, and when that is full, no peer can be sent anything
//! over it. The kernel bounds how many datagrams wait for a peer (net.unix.max_dgram_qlen), but not their size; and for
//! a peer that has connected its socket to ours, and so accepts datagrams from no other socket, not even their number
//! (unix_dgram_sendmsg).
//!
//! Therefore each peer has a credit. What it was sent counts against the credit until it is known to have read
//! everything: all peers have when nothing is charged any more; otherwise the kernel is asked for each. Nothing can
//! take unread datagrams back from a peer: they are charged until it reads them or closes its socket. So the size of
//! the buffer bounds how many peers may stall.

use std::collections::HashMap;
use std::io;
use std::mem;

use upcall_wire::address::UnixName;

use super::errno::SendError;
use super::socket::{BufferUsage, DatagramSocket};
use super::unix_diag::{PeerQueue, UnixDiag};
use super::unix_peer::UnixPeer;

/// What one peer may have unread, in charged bytes. The least is room for ten small datagrams by the estimate of
/// [`charge`], which is as many as the kernel queues for one peer by default. A larger buffer allows more, which saves
/// requests to the kernel. A single datagram of any size is always allowed.
const LEAST_CREDIT: usize = 16 * 1024;
const MOST_CREDIT: usize = 64 * 1024;

/// The number of credits that a buffer is divided into.
const CREDITS: usize = 32;

/// What one peer was sent over the shared socket since it was last known to have read everything.
#[derive(Debug, Default)]
pub struct InFlight {
    /// The epoch in which that was. `None` for a new peer: datagrams may wait for it that were sent before it left and
    /// returned.
    epoch: Option<u64>,
    /// An upper bound of what is charged for it, in bytes.
    bytes: usize,
    /// How often in a row it was granted nothing.
    refusals: u32,
}

/// Why a peer is granted nothing now: it has used up its credit, and has unread datagrams.
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
    /// What was charged for all unread datagrams when it was last measured, in bytes.
    sending: usize,
    /// The size of the send buffer, in bytes; 0 until it is measured.
    send_buffer: usize,
    /// An upper bound of what was granted since the last measurement, in charged bytes.
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
    /// Not asked yet, or to be opened again after an error.
    #[default]
    Closed,
    Open(UnixDiag),
    /// It cannot: no peer is held back.
    Unavailable,
}

#[derive(Debug)]
struct KnownQueues {
    peers: HashMap<UnixName, PeerQueue>,
    /// What was charged when they were read. While that is still charged, and nothing was sent, no peer has read
    /// anything.
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
    /// How often the peer was granted nothing since it last was granted something.
    pub fn refusals(&self) -> u32 {
        self.refusals
    }
}

impl FlowControl {
    /// Starts a round of sending: measurements of the last round may not hold any more.
    pub fn begin_round(&mut self) {
        self.measured = false;
        if let Some(queues) = &mut self.queues {
            queues.is_new = false;
        }
    }

    /// Measures how much is unread by all peers together.
    pub fn measure(&mut self, socket: &DatagramSocket) {
        self.measured = true;
        // This does not fail on a socket. If it did, no peer would count as having read anything.
        let Ok(usage) = socket.buffer_usage() else { return };
        (self.sending, self.send_buffer, self.granted) = (usage.sending, usage.send_buffer, 0);
        if self.sending == 0 {
            self.epoch += 1;
        }
        self.full &= self.sending >= self.send_buffer / 2;
    }

    /// Records that a datagram found no room. If the shared socket is full, returns how full it is: once, and again
    /// only after half of the buffer has been free.
    pub fn note_full(&mut self, socket: &DatagramSocket) -> Option<BufferUsage> {
        let usage = socket.buffer_usage().ok().filter(|usage| usage.sending >= usage.send_buffer)?;
        (!mem::replace(&mut self.full, true)).then_some(usage)
    }

    /// How many datagrams of `size` bytes a peer may be sent in this round, at most `wanted`.
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
        // Not before half of the credit is used: most peers have read everything long before that.
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
        // The credit holds while half of the buffer is free. After that, a peer with unread datagrams gets nothing, so
        // that the rest serves many peers, however many have used up their credit.
        let credit = if self.charged() < self.send_buffer / 2 { self.credit() } else { 0 };
        let datagrams = credit.saturating_sub(in_flight.bytes) / charge(size);
        if in_flight.bytes == 0 { datagrams.max(1) } else { datagrams }
    }

    fn credit(&self) -> usize {
        (self.send_buffer / CREDITS).clamp(LEAST_CREDIT, MOST_CREDIT)
    }

    /// An upper bound of what is charged for all peers, in bytes.
    fn charged(&self) -> usize {
        self.sending.saturating_add(self.granted)
    }

    fn is_unavailable(&self) -> bool {
        matches!(self.diagnostics, Diagnostics::Unavailable)
    }

    fn update(&self, in_flight: &mut InFlight) {
        if in_flight.epoch != Some(self.epoch) {
            // A new peer may have been here before, and have left datagrams unread.
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

    /// Finds out whether a peer has read everything. One request to the kernel answers for all peers, until something
    /// is sent or read.
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
            // After an error it stays closed: unread parts of the answer would precede the next one.
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

    /// Why the kernel cannot be asked, once. From then on, all peers may be sent as much as the kernel accepts for
    /// them.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }
}
