//! Datagrams as a link: each line is sent as one, each that comes is an upcall. Joins, renews and leaves.
//!
//! Best effort, as the transport is: nothing confirms an input. What can be noticed is: that nobody is there, and that
//! the daemon did not know us when a message came.

use std::io::{self, ErrorKind};
use std::mem;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use fastrand::Rng;
use memchr::memchr;
use nix::errno::Errno;

use super::membership::{Heard, JOIN, Session};
use super::pacer::Pacer;
use super::{End, Link, Manner, Take};
use crate::commands::failure::{Failure, say};
use crate::commands::text::datagram_commands as commands;
use crate::exit::Status;
use upcall_client::socket::datagram::{DatagramSocket, Reach, is_full};
use upcall_wire::address::Address;

/// More than any datagram holds: that of UDP, or a Unix one of the usual send buffer.
const BUFFER: usize = 256 << 10;

/// What a datagram can carry over UDP and IPv4; a line that has not ended by then never fits.
const LARGEST: usize = 65_507;

/// How many datagrams are read before anything else is done.
const BATCH: usize = 64;

/// How long a goodbye waits for room.
const PARTING: Duration = Duration::from_millis(500);

/// How much of the time to linger must pass without an upcall until none is expected behind the last input.
const ECHO_SHARE: u32 = 10;

/// A registration by datagrams, and what is under way.
pub(in crate::commands) struct DatagramLink {
    name: String,
    mailbox: DatagramSocket,
    session: Session,
    random: Rng,
    manner: Manner,
    buffer: Vec<u8>,
    /// Lines to be sent.
    out: Vec<u8>,
    /// How much of `out` was there, and had to stay, when it was last looked at.
    considered: Option<usize>,
    pacer: Pacer,
    /// Nothing will be appended to `out`: when to give up, renewed by every datagram that leaves.
    linger_until: Option<Instant>,
    /// Everything was sent: when to believe that nothing will be heard of it.
    settled_at: Option<Instant>,
    /// Nobody is there to say goodbye to.
    over: bool,
}

impl DatagramLink {
    /// Joins. By the time this returns, a challenge has come, or is not expected.
    pub(in crate::commands) fn open(address: &Address, manner: Manner) -> Result<DatagramLink, Failure> {
        let mailbox = DatagramSocket::open(address, manner.timeout, JOIN)?;
        let mut random = Rng::new();
        Ok(DatagramLink {
            name: address.to_string(),
            mailbox,
            session: Session::begun(Instant::now(), &mut random),
            random,
            manner,
            buffer: vec![0; BUFFER],
            out: Vec::new(),
            considered: None,
            pacer: Pacer::default(),
            linger_until: None,
            settled_at: None,
            over: false,
        })
    }

    /// Sends what belongs to the protocol. It may get lost on the way, so it may as well here.
    fn post(&mut self, datagram: &[u8]) -> Option<End> {
        match self.mailbox.send(datagram) {
            Err(error) if !is_full(&error) => Some(self.gone(&error)),
            _ => None,
        }
    }

    fn gone(&mut self, error: &io::Error) -> End {
        self.over = true;
        let status = match error.kind() {
            ErrorKind::PermissionDenied => Status::Denied,
            _ => Status::Refused,
        };
        End::Failed(Failure::new(status, format!("nobody is at {} any more: {error}", self.name)))
    }

    /// Sends lines until there are no more, or a pause is due.
    fn send_lines(&mut self, last: bool, now: Instant) -> Option<End> {
        let mut lines = mem::take(&mut self.out);
        let mut sent = 0;
        let mut end = None;
        while self.pacer.is_open(now)
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
            end = Some(unsendable("a line is longer than a datagram can be"));
        }
        end
    }

    /// Sends a line as a datagram; returns how much of it left, which is nothing where there is no room.
    fn send_line(&mut self, line: &[u8], now: Instant) -> Result<usize, End> {
        let strict = self.session.is_proved() || self.mailbox.reach() == Reach::Network;
        commands::check(line, strict).map_err(End::Failed)?;
        match self.mailbox.send(line) {
            Ok(()) => {}
            Err(error) if is_full(&error) => {
                self.pacer.stalled(now);
                return Ok(0);
            }
            Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
                return Err(unsendable(&format!("a message of {} bytes does not fit into a datagram", line.len())));
            }
            Err(error) => return Err(self.gone(&error)),
        }
        self.session.sent();
        self.linger_until = self.linger_until.map(|_| now + self.manner.linger);
        // A Unix socket says by itself when it is full.
        self.pacer.sent(line.len(), self.mailbox.reach() != Reach::Unix, now);
        Ok(line.len())
    }

    /// How long to listen when everything is sent: whether something was wrong, and what is still due to us.
    fn settling(&self) -> Duration {
        let quiet = self.mailbox.reach().quiet();
        if self.manner.echo { quiet.max(self.manner.linger / ECHO_SHARE) } else { quiet }
    }

    fn verdict(&self) -> End {
        let (refused, sent) = self.session.refused();
        if refused == 0 {
            return End::Sent;
        }
        let message = format!(
            "{refused} of {sent} messages were not taken: when they came, the daemon had yet to see proof of our address"
        );
        End::Failed(Failure::new(Status::TimedOut, message))
    }
}

impl Link for DatagramLink {
    fn fd(&self) -> BorrowedFd<'_> {
        self.mailbox.as_fd()
    }

    fn wants_room(&self) -> bool {
        false
    }

    fn due(&self) -> Option<Instant> {
        if self.considered != Some(self.out.len()) {
            // What was appended waits for nothing but a look at what has come before: it may be a challenge.
            return Some(Instant::now());
        }
        let renewal = Some(self.session.renew_at());
        [renewal, self.pacer.resume_at(), self.linger_until, self.settled_at].into_iter().flatten().min()
    }

    fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    fn receive(&mut self, take: &mut Take<'_>) -> Option<End> {
        let mut buffer = mem::take(&mut self.buffer);
        let mut end = None;
        for _ in 0..BATCH {
            let datagram = match self.mailbox.receive(&mut buffer) {
                Ok(Some(length @ 1..)) => &buffer[..length],
                // A stranger's, or an empty one, which is no end of file.
                Ok(_) => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    end = Some(self.gone(&error));
                    break;
                }
            };
            let flow = match self.session.heard(datagram) {
                Heard::Upcall(upcall) => {
                    if self.manner.echo && self.settled_at.is_some() {
                        self.settled_at = Some(Instant::now() + self.settling());
                    }
                    take(upcall)
                }
                Heard::Challenge(answer) => {
                    end = self.post(answer);
                    // What is said next must not overtake the proof.
                    match self.mailbox.reach().disorder() {
                        Duration::ZERO => {}
                        disorder => self.pacer.pause(Instant::now() + disorder),
                    }
                    ControlFlow::Continue(())
                }
                Heard::Farewell(farewell) => {
                    self.over = true;
                    end = Some(End::Closed { farewell: Some(farewell), complete: false });
                    ControlFlow::Break(())
                }
            };
            if flow.is_break() || end.is_some() {
                break;
            }
        }
        self.buffer = buffer;
        if let Some(foreign) = self.mailbox.take_foreign() {
            say(&foreign);
        }
        end
    }

    fn send(&mut self, last: bool) -> Option<End> {
        let now = Instant::now();
        if last && self.linger_until.is_none() {
            self.linger_until = Some(now + self.manner.linger);
        }
        if let Some(end) = self.send_lines(last, now) {
            return Some(end);
        }
        if last && self.out.is_empty() && self.settled_at.is_none() {
            self.settled_at = Some(now + self.settling());
        }
        self.considered = Some(self.out.len());
        None
    }

    fn expire(&mut self, _: &mut Take<'_>) -> Option<End> {
        let now = Instant::now();
        if let Some(join) = self.session.renew(now, &mut self.random)
            && let Some(end) = self.post(join)
        {
            return Some(end);
        }
        let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match (is_over(self.settled_at), is_over(self.linger_until)) {
            (false, true) if self.settled_at.is_none() => Some(End::Lingered { unsent: true }),
            (false, false) => None,
            _ => Some(self.verdict()),
        }
    }

    fn leave(&mut self) {
        if !self.over {
            self.over = true;
            // If it gets lost, the lease ends by itself.
            let _ = self.mailbox.send_last(&self.session.bye(), PARTING);
        }
    }
}

/// The first line of `lines`, its newline included; `last`: also what has none.
fn next_line(lines: &[u8], last: bool) -> Option<&[u8]> {
    match memchr(b'\n', lines) {
        Some(newline) => Some(&lines[..=newline]),
        None => (last && !lines.is_empty()).then_some(lines),
    }
}

fn unsendable(complaint: &str) -> End {
    End::Failed(Failure::new(Status::BadData, format!("{complaint}; use tcp or unix for it")))
}
