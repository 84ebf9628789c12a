//! A link over datagrams: each line is sent as a datagram, and each datagram that arrives is an upcall. Joins, renews
//! and leaves.
//!
//! Best effort, as the transport is: nothing confirms an input. Two failures can be detected: that no daemon receives
//! our datagrams, and that the daemon did not know us when a message arrived.

use std::io::{self, ErrorKind};
use std::mem;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use fastrand::Rng;
use memchr::memchr;
use nix::errno::Errno;
use upcall_client::socket::datagram::{DatagramSocket, Reach, is_full};
use upcall_wire::address::Address;

use super::membership::{JOIN, Membership, TextDatagram};
use super::pacer::Pacer;
use super::{Link, LinkEnd, LinkOptions, OnUpcall};
use crate::commands::failure::Failure;
use crate::commands::terminal::output::notice;
use crate::commands::text::datagram_commands;
use crate::exit::Status;

/// The size of the read buffer, in bytes: larger than any datagram over UDP, or over a Unix socket with the usual send
/// buffer.
const BUFFER: usize = 256 << 10;

/// The most bytes that a datagram carries over UDP and IPv4. A longer line never fits.
const LARGEST: usize = 65_507;

/// How many datagrams are read before anything else is done.
const BATCH: usize = 64;

/// How long leaving may wait for room in the daemon's queue.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// If no upcall arrives for this part of the time to linger, none is expected any more for the last input.
const ECHO_SHARE: u32 = 10;

/// A registration by datagrams, and the lines to send.
pub(in crate::commands) struct DatagramLink {
    name: String,
    socket: DatagramSocket,
    membership: Membership,
    random: Rng,
    options: LinkOptions,
    buffer: Vec<u8>,
    /// Lines to send.
    out: Vec<u8>,
    /// The length of `out` after the last attempt to send it; `None` before the first one.
    considered: Option<usize>,
    pacer: Pacer,
    phase: Phase,
    /// Whether the registration has ended, so that there is nothing to leave.
    is_over: bool,
}

/// The progress with the lines of the source.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// More lines may be appended.
    Open,
    /// Nothing will be appended to `out`, which is not empty yet. Gives up at `linger_until`, which every datagram that
    /// is sent renews.
    Draining { linger_until: Instant },
    /// Everything was sent. No answer to it is expected after `quiet_until`, or at the latest after `linger_until`.
    Settling { quiet_until: Instant, linger_until: Instant },
}

impl Phase {
    fn due(self) -> Option<Instant> {
        match self {
            Phase::Open => None,
            Phase::Draining { linger_until } => Some(linger_until),
            Phase::Settling { quiet_until, linger_until } => Some(quiet_until.min(linger_until)),
        }
    }
}

impl DatagramLink {
    /// Joins the daemon. When this returns, a challenge has arrived, or none is expected.
    pub(in crate::commands) fn open(address: &Address, options: LinkOptions) -> Result<DatagramLink, Failure> {
        let socket = DatagramSocket::open(address, options.timeout, JOIN)?;
        let mut random = Rng::new();
        Ok(DatagramLink {
            name: address.to_string(),
            socket,
            membership: Membership::joined(Instant::now(), &mut random),
            random,
            options,
            buffer: vec![0; BUFFER],
            out: Vec::new(),
            considered: None,
            pacer: Pacer::default(),
            phase: Phase::Open,
            is_over: false,
        })
    }

    /// Sends a datagram of the protocol. If there is no room, it is dropped: the network could lose it just as well.
    fn send_control(&mut self, datagram: &[u8]) -> Option<LinkEnd> {
        match self.socket.send(datagram) {
            Err(error) if !is_full(&error) => Some(self.fail(&error)),
            _ => None,
        }
    }

    fn fail(&mut self, error: &io::Error) -> LinkEnd {
        self.is_over = true;
        let status = match error.kind() {
            ErrorKind::PermissionDenied => Status::Denied,
            _ => Status::Refused,
        };
        LinkEnd::Failed(Failure::new(status, format!("{} does not receive datagrams any more: {error}", self.name)))
    }

    /// Sends lines until there are no more, or the pacer asks for a pause.
    fn send_lines(&mut self, last: bool, now: Instant) -> Option<LinkEnd> {
        let mut lines = mem::take(&mut self.out);
        let mut sent = 0;
        let mut end = None;
        while self.pacer.check(now)
            && end.is_none()
            && let Some(line) = next_line(&lines[sent..], last)
        {
            match self.send_line(line, now) {
                Ok(length) => sent += length,
                Err(failed) => end = Some(failed),
            }
        }
        lines.drain(..sent);
        self.out = lines;
        if end.is_none() && self.out.len() > LARGEST && next_line(&self.out, false).is_none() {
            end = Some(unsendable("a line does not fit into a datagram"));
        }
        end
    }

    /// Sends a line as a datagram. Returns how many bytes were sent: all, or none if there is no room.
    fn send_line(&mut self, line: &[u8], now: Instant) -> Result<usize, LinkEnd> {
        let may_need_proof = self.membership.needs_proof() || self.socket.reach() == Reach::Network;
        datagram_commands::refuse(line, may_need_proof).map_err(LinkEnd::Failed)?;
        match self.socket.send(line) {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                self.pacer.note_full(now);
                return Ok(0);
            }
            Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
                return Err(unsendable(&format!("a message of {} bytes does not fit into a datagram", line.len())));
            }
            Err(error) => return Err(self.fail(&error)),
        }
        self.membership.note_sent();
        if let Phase::Draining { linger_until } = &mut self.phase {
            *linger_until = now + self.options.linger;
        }
        // A send to a full Unix socket fails. Over UDP, only the pacer prevents a full buffer.
        self.pacer.note_sent(line.len(), self.socket.reach() != Reach::Unix, now);
        Ok(line.len())
    }

    /// How long to read after the last line was sent: for an error or a challenge, and for the upcalls that are wanted.
    fn settle_time(&self) -> Duration {
        let quiet = self.socket.reach().quiet();
        if self.options.echo { quiet.max(self.options.linger / ECHO_SHARE) } else { quiet }
    }

    fn outcome(&self) -> LinkEnd {
        let (refused, sent) = self.membership.refused();
        if refused == 0 {
            return LinkEnd::Sent;
        }
        let message =
            format!("{refused} of {sent} messages were not accepted: they arrived before the proof of our address");
        LinkEnd::Failed(Failure::new(Status::TimedOut, message))
    }
}

impl Link for DatagramLink {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn wants_room(&self) -> bool {
        false
    }

    fn due(&self) -> Option<Instant> {
        if self.considered != Some(self.out.len()) {
            // Lines were appended. Send them after reading, because a challenge may have arrived.
            return Some(Instant::now());
        }
        let renewal = Some(self.membership.renew_at());
        [renewal, self.pacer.resume_at(), self.phase.due()].into_iter().flatten().min()
    }

    fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    fn receive(&mut self, on_upcall: &mut OnUpcall<'_>) -> Option<LinkEnd> {
        let mut buffer = mem::take(&mut self.buffer);
        let mut end = None;
        for _ in 0..BATCH {
            let datagram = match self.socket.receive(&mut buffer) {
                Ok(Some(length @ 1..)) => &buffer[..length],
                // Another sender's datagram, or an empty one, which does not mean end of file.
                Ok(_) => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    end = Some(self.fail(&error));
                    break;
                }
            };
            let flow = match self.membership.receive(datagram) {
                TextDatagram::Upcall(upcall) => {
                    let settle_time = self.settle_time();
                    if self.options.echo
                        && let Phase::Settling { quiet_until, .. } = &mut self.phase
                    {
                        *quiet_until = Instant::now() + settle_time;
                    }
                    on_upcall(upcall)
                }
                TextDatagram::Challenge(answer) => {
                    end = self.send_control(answer);
                    // The next message must not overtake the proof.
                    match self.socket.reach().disorder() {
                        Duration::ZERO => {}
                        disorder => self.pacer.pause(Instant::now() + disorder),
                    }
                    ControlFlow::Continue(())
                }
                TextDatagram::Farewell(farewell) => {
                    self.is_over = true;
                    end = Some(LinkEnd::Closed { farewell: Some(farewell), complete: false });
                    ControlFlow::Break(())
                }
            };
            if flow.is_break() || end.is_some() {
                break;
            }
        }
        self.buffer = buffer;
        if let Some(foreign) = self.socket.take_foreign() {
            notice(&foreign);
        }
        end
    }

    fn send(&mut self, last: bool) -> Option<LinkEnd> {
        let now = Instant::now();
        if last && let Phase::Open = self.phase {
            self.phase = Phase::Draining { linger_until: now + self.options.linger };
        }
        if let Some(end) = self.send_lines(last, now) {
            return Some(end);
        }
        if self.out.is_empty()
            && let Phase::Draining { linger_until } = self.phase
        {
            self.phase = Phase::Settling { quiet_until: now + self.settle_time(), linger_until };
        }
        self.considered = Some(self.out.len());
        None
    }

    fn expire(&mut self, _: &mut OnUpcall<'_>) -> Option<LinkEnd> {
        let now = Instant::now();
        if let Some(join) = self.membership.renew(now, &mut self.random)
            && let Some(end) = self.send_control(join)
        {
            return Some(end);
        }
        if self.phase.due().is_none_or(|due| due > now) {
            return None;
        }
        match self.phase {
            Phase::Open => None,
            Phase::Draining { .. } => Some(LinkEnd::Lingered { unsent: true }),
            Phase::Settling { .. } => Some(self.outcome()),
        }
    }

    fn leave(&mut self) {
        if !self.is_over {
            self.is_over = true;
            // If this is lost, the registration ends with its lease.
            let _ = self.socket.send_last(&self.membership.bye(), LEAVE_TIMEOUT);
        }
    }
}

/// The first line of `lines`, its newline included. `last`: a rest without a newline is a line too.
fn next_line(lines: &[u8], last: bool) -> Option<&[u8]> {
    match memchr(b'\n', lines) {
        Some(newline) => Some(&lines[..=newline]),
        None => (last && !lines.is_empty()).then_some(lines),
    }
}

fn unsendable(complaint: &str) -> LinkEnd {
    LinkEnd::Failed(Failure::new(Status::BadData, format!("{complaint}; use tcp or unix for it")))
}
