//! Flow control on a shared Unix socket: how much each peer may have unread of what that socket has sent.
//!
//! What is unread is charged to the socket's send buffer, and when that is full nobody gets anything over it. The kernel
//! bounds how many datagrams wait for a peer (net.unix.max_dgram_qlen), but not how large they are; and not even how many
//! for a peer that has connected its socket to ours (unix_dgram_sendmsg), which takes nothing from any other socket. So
//! each peer has a credit. What it was sent counts against that until it is known to have read everything: when nothing is
//! charged any more all have, and otherwise the kernel tells for each. What a peer holds can be taken from it by nobody:
//! it is charged until the peer reads or closes its socket. The buffer thus bounds how many may stall.

use std::collections::HashMap;
use std::io;

use super::errno::Trouble;
use super::unix_diag::{Diagnosis, Queue};
use super::{DatagramSocket, Kept, UnixPeer};
use upcall_wire::address::UnixName;

/// What one peer may have unread, in bytes as they are charged: the least is room for ten small datagrams, as many as
/// the kernel keeps for one by default, and as the estimate below has them. A larger buffer allows more, so that fewer
/// questions are needed. A single datagram is allowed in any case, whatever its size.
const LEAST_CREDIT: usize = 16 * 1024;
const MOST_CREDIT: usize = 64 * 1024;

/// Into how many credits a buffer is divided.
const CREDITS: usize = 32;

/// How much one peer has been sent over the shared socket since it was last known to have read everything.
#[derive(Debug, Default)]
pub struct InFlight {
    /// When that was: unknown for a newcomer, in whose queue something may wait since it was here before.
    epoch: Option<u64>,
    /// An upper bound of what is charged for it.
    bytes: usize,
    /// How often it was granted nothing, one time after the other.
    refusals: u32,
}

/// Why a peer gets nothing more for now: it has used up its credit, and something waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stalled {
    /// A socket of its own would spare the shared one ([`PeerSocket`](super::PeerSocket)).
    Unread,
    /// It has connected its socket to the shared one: it takes nothing from any other. When it has read, nobody says.
    Connected,
}

/// What a shared Unix socket has to know of its peers together.
#[derive(Debug, Default)]
pub struct FlowControl {
    /// It begins whenever nobody has anything unread.
    epoch: u64,
    /// What is charged for what everybody has unread, and how much it may be, as of the last look; and at most how much
    /// more was granted since.
    sending: usize,
    send_buffer: usize,
    granted: usize,
    /// The socket was found full, and half of its buffer has not been free since.
    full: bool,
    /// That was in this round.
    looked: bool,
    diagnosis: Option<Diagnosis>,
    /// The kernel cannot be asked.
    blind: bool,
    trouble: Option<io::Error>,
    /// The last answer, while nothing was sent since.
    queues: Option<Queues>,
}

#[derive(Debug)]
struct Queues {
    peers: HashMap<UnixName, Queue>,
    /// What was charged then: as long as it still is, and nothing was sent, nobody has read anything.
    sending: usize,
    /// Asked since the last look.
    is_new: bool,
}

/// What the kernel charges for a datagram at most: its buffers are powers of two, or pages, and each has a header (truesize,
/// as measured on Linux 6.18: 768 for one byte, 8,448 for 4,000, 65,792 for 60 KiB).
const fn charge(bytes: usize) -> usize {
    bytes.saturating_mul(2).saturating_add(1024)
}

/// Whether another question may be answered.
fn is_passing(error: &io::Error) -> bool {
    let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
    errno == libc::EINTR || matches!(Trouble::of_unix(errno), Trouble::Starved | Trouble::Full)
}

impl InFlight {
    /// How often the peer was granted nothing since it last was granted something.
    pub fn refusals(&self) -> u32 {
        self.refusals
    }
}

impl FlowControl {
    /// A round of sending begins: what was found out in the last one may not hold any more.
    pub fn begin_round(&mut self) {
        self.looked = false;
        if let Some(queues) = &mut self.queues {
            queues.is_new = false;
        }
    }

    /// Looks how much is unread of everybody's.
    pub fn look(&mut self, socket: &DatagramSocket) {
        self.looked = true;
        // It cannot fail on a socket; if it did, nobody would be known to have read anything.
        let Ok(kept) = socket.kept() else { return };
        (self.sending, self.send_buffer, self.granted) = (kept.sending, kept.send_buffer, 0);
        if self.sending == 0 {
            self.epoch += 1;
        }
        self.full &= self.sending >= self.send_buffer / 2;
    }

    /// A datagram found no room: what is unread of everybody's if that is why, once until half of the buffer has been free.
    pub fn refused(&mut self, socket: &DatagramSocket) -> Option<Kept> {
        let kept = socket.kept().ok().filter(|kept| kept.sending >= kept.send_buffer)?;
        (!std::mem::replace(&mut self.full, true)).then_some(kept)
    }

    /// How many datagrams of this size, of those that are `wanted`, a peer is to be sent in this round.
    pub fn grant(
        &mut self,
        socket: &DatagramSocket,
        peer: &UnixPeer,
        in_flight: &mut InFlight,
        wanted: usize,
        size: usize,
    ) -> Result<usize, Stalled> {
        if self.send_buffer == 0 {
            // Somebody else may have sent over a socket that was handed over.
            self.look(socket);
        }
        self.update(in_flight);
        let mut allowance = self.allowance(in_flight, size);
        // Not before half of the credit is used: most peers have long read everything by then.
        if !self.looked && (allowance < wanted || in_flight.bytes > self.credit() / 2) {
            self.look(socket);
            self.update(in_flight);
            allowance = self.allowance(in_flight, size);
        }
        if allowance == 0 {
            self.ask(socket, peer).inspect_err(|_| in_flight.refusals = in_flight.refusals.saturating_add(1))?;
            in_flight.bytes = 0;
            allowance = self.allowance(in_flight, size);
        }
        in_flight.refusals = 0;
        let granted = allowance.min(wanted);
        self.granted = self.granted.saturating_add(charge(size).saturating_mul(granted));
        Ok(granted)
    }

    fn allowance(&self, in_flight: &InFlight, size: usize) -> usize {
        if self.blind {
            return usize::MAX;
        }
        // While half of the buffer is left. Then whoever has something unread gets nothing more, so that what is left
        // serves many, however many have used up their credit.
        let credit = if self.charged() < self.send_buffer / 2 { self.credit() } else { 0 };
        let datagrams = credit.saturating_sub(in_flight.bytes) / charge(size);
        if in_flight.bytes == 0 { datagrams.max(1) } else { datagrams }
    }

    fn credit(&self) -> usize {
        (self.send_buffer / CREDITS).clamp(LEAST_CREDIT, MOST_CREDIT)
    }

    /// What is charged for everybody at most.
    fn charged(&self) -> usize {
        self.sending.saturating_add(self.granted)
    }

    fn update(&self, in_flight: &mut InFlight) {
        if in_flight.epoch != Some(self.epoch) {
            // A newcomer may have been here before, and have left something unread then.
            let unknown = in_flight.epoch.is_none() && self.charged() > 0;
            let bytes = if unknown { usize::MAX } else { 0 };
            *in_flight = InFlight { epoch: Some(self.epoch), bytes, ..*in_flight };
        }
    }

    /// Takes note of datagrams that were sent to a peer.
    pub fn sent(&mut self, in_flight: &mut InFlight, count: usize, size: usize) {
        if count > 0 {
            self.update(in_flight);
            in_flight.bytes = in_flight.bytes.saturating_add(charge(size).saturating_mul(count));
            self.queues = None;
        }
    }

    /// Asks the kernel whether a peer has read everything. One question answers for all peers, until something is sent or
    /// read.
    fn ask(&mut self, socket: &DatagramSocket, peer: &UnixPeer) -> Result<(), Stalled> {
        if !self.knows(peer) {
            self.question(socket);
        }
        match self.queues.as_ref().and_then(|queues| queues.peers.get(peer.name())) {
            Some(Queue { unread: false, .. }) => Ok(()),
            _ if self.blind => Ok(()),
            Some(Queue { connected: true, .. }) => Err(Stalled::Connected),
            _ => Err(Stalled::Unread),
        }
    }

    /// Whether the last answer still holds, and for this peer, too.
    fn knows(&self, peer: &UnixPeer) -> bool {
        self.queues.as_ref().is_some_and(|queues| {
            queues.is_new || (queues.sending == self.sending && queues.peers.contains_key(peer.name()))
        })
    }

    fn question(&mut self, socket: &DatagramSocket) {
        self.queues = None;
        let opened = match (socket.fault(), self.diagnosis.take()) {
            (Some(error), _) => Err(error),
            (None, Some(diagnosis)) => Ok(diagnosis),
            (None, None) => Diagnosis::open(socket),
        };
        let answered = opened.and_then(|mut diagnosis| {
            let peers = diagnosis.queues()?;
            // After an error, what is left of its answers would be in the way of the next.
            self.diagnosis = Some(diagnosis);
            Ok(peers)
        });
        match answered {
            Ok(peers) => self.queues = Some(Queues { peers, sending: self.sending, is_new: true }),
            Err(error) if is_passing(&error) => {}
            Err(error) => {
                self.blind = true;
                self.trouble = Some(error);
            }
        }
    }

    /// Why the kernel cannot be asked, once: all peers may then be sent as much as the kernel takes for them.
    pub fn take_trouble(&mut self) -> Option<io::Error> {
        self.trouble.take()
    }
}
