//! One thread that drives all connections of a bench: the first one publishes, every one receives and is checked.
//!
//! Knows neither transports nor what is measured. Everything is nonblocking, and where nothing moves for the time allowed
//! although something is outstanding, the bench fails rather than wait.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::checker::{Checker, Faults};
use super::histogram::Histogram;
use super::link::{Link, ended};
use super::message::{Format, Stamp};
use super::outgoing::Outgoing;
use super::renewals::Renewals;
use super::scanner::{Found, Scanner};
use crate::commands::failure::Failure;
use crate::exit::Status;

/// Read at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// Events taken at a time.
const EVENTS: usize = 1_024;

/// What is still outstanding after this time of silence is lost, on links that lose.
const LOST_AFTER: Duration = Duration::from_millis(200);

/// Said first. A daemon takes every pause for the end of a message until it has seen a newline, and a large message is
/// rarely sent without a pause.
const GREETING: &[u8] = b"bench\n";

/// The connection that publishes.
const PUBLISHER: usize = 0;

struct Member {
    link: Box<dyn Link>,
    scanner: Scanner,
    checker: Checker,
}

/// The connections of a bench.
pub(super) struct Swarm {
    members: Vec<Member>,
    epoll: Epoll,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
    format: Format,
    epoch: Instant,
    timeout: Duration,
    /// When something was last sent or received, or had not to be.
    moved: Instant,
    out: Outgoing,
    sent: u64,
    slowest: u64,
    deliveries: u64,
    times: Option<Histogram>,
    renewals: Renewals,
}

impl Swarm {
    /// A swarm that publishes messages of `size` bytes on its first link, once it has one.
    pub(super) fn new(run: u64, size: usize, timeout: Duration) -> Result<Swarm, Failure> {
        Ok(Swarm {
            members: Vec::new(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(cannot_wait)?,
            events: vec![EpollEvent::empty(); EVENTS],
            // What a read continues stands in front of it: less than one message, or the little that a scanner keeps.
            buffer: vec![0; CHUNK + size + 64],
            format: Format::new(run, size),
            epoch: Instant::now(),
            timeout,
            moved: Instant::now(),
            out: Outgoing::default(),
            sent: 0,
            slowest: 0,
            deliveries: 0,
            times: None,
            renewals: Renewals::default(),
        })
    }

    /// Takes over connections, which may not be read or written elsewhere.
    pub(super) fn add(&mut self, links: Vec<Box<dyn Link>>) -> Result<(), Failure> {
        for link in links {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, self.members.len() as u64);
            self.epoll.add(&link, event).map_err(cannot_wait)?;
            if link.loses() {
                self.renewals.add(Instant::now(), self.members.len());
            }
            self.members.push(Member { link, scanner: Scanner::default(), checker: Checker::default() });
        }
        Ok(())
    }

    /// Says something short, that is no message of the run, before the publisher says anything else.
    pub(super) fn greet(&mut self) {
        self.out.bytes().extend_from_slice(GREETING);
        // A new connection takes this much; where it is broken, what comes next finds out.
        self.out.send(self.members[PUBLISHER].link.as_mut(), GREETING.len());
    }

    /// Publishes up to `count` messages, as many as the socket takes and a little more; returns how many.
    pub(super) fn publish(&mut self, count: u64) -> Result<u64, Failure> {
        let mut left = count;
        if self.slowest == self.sent && left > 0 {
            // The time to answer begins now.
            self.moved = Instant::now();
        }
        while left > 0 && self.out.has_room(self.format.size()) {
            let time = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
            while left > 0 && self.out.has_room(self.format.size()) {
                self.format.write(Stamp { index: self.sent, time }, self.out.bytes());
                self.sent += 1;
                left -= 1;
            }
            self.write()?;
        }
        Ok(count - left)
    }

    /// Waits up to `wait`, in whole milliseconds, for something to happen, and deals with all that has.
    pub(super) fn turn(&mut self, wait: Duration) -> Result<(), Failure> {
        for i in self.renewals.due(Instant::now(), |i| self.members[i].checker.has_begun()) {
            self.members[i].link.renew();
        }
        let wait = EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::ZERO);
        let count = match self.epoll.wait(&mut self.events, wait) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(cannot_wait(error)),
        };
        for i in 0..count {
            let event = self.events[i];
            let member = event.data() as usize;
            if event.events().contains(EpollFlags::EPOLLOUT) {
                self.write()?;
            }
            if event.events() != EpollFlags::EPOLLOUT {
                self.read(member)?;
                // Some make room by what they read.
                if member == PUBLISHER && self.out.is_full() {
                    self.write()?;
                }
            }
        }
        self.slowest = self.participants().map(|member| member.checker.next()).min().unwrap_or(self.sent);
        if self.slowest < self.sent || !self.out.is_empty() { self.wait_no_longer() } else { Ok(()) }
    }

    /// Sleeps until something has happened or the time is over, which need not be whole milliseconds.
    pub(super) fn rest(&self, time: Duration) {
        // Whatever ends it, what comes next looks for itself.
        let _ = ppoll(&mut [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)], Some(time.into()), None);
    }

    fn participants(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.checker.has_begun())
    }

    fn wait_no_longer(&mut self) -> Result<(), Failure> {
        let silence = self.moved.elapsed();
        let loses = self.members[PUBLISHER].link.loses();
        if loses && silence >= LOST_AFTER && self.out.is_empty() {
            for member in &mut self.members {
                member.checker.give_up(self.sent);
            }
            self.slowest = self.sent;
        } else if silence >= self.timeout {
            return Err(self.stuck());
        }
        Ok(())
    }

    fn stuck(&self) -> Failure {
        let time = humantime::format_duration(self.timeout);
        let participants = self.participants().count();
        let behind = self.participants().filter(|member| member.checker.next() < self.sent).count();
        let message = if self.out.is_empty() {
            format!(
                "nothing has come for {time}: {behind} of {participants} receivers do not have all of {} messages, the \
                 slowest {}; is the daemon stuck?",
                self.sent, self.slowest
            )
        } else {
            format!("the daemon has taken nothing for {time}; is it stuck?")
        };
        Failure::new(Status::TimedOut, message)
    }

    fn write(&mut self) -> Result<(), Failure> {
        let was_full = self.out.is_full();
        let publisher = &mut self.members[PUBLISHER];
        if self.out.send(publisher.link.as_mut(), self.format.size()) {
            self.moved = Instant::now();
        }
        publisher.link.over().map_or(Ok(()), Err)?;
        if self.out.is_full() == was_full {
            return Ok(());
        }
        let also = if was_full { EpollFlags::empty() } else { EpollFlags::EPOLLOUT };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | also, PUBLISHER as u64);
        self.epoll.modify(&publisher.link, &mut event).map_err(cannot_wait)
    }

    /// Reads once: whoever has more comes again in the next turn.
    fn read(&mut self, i: usize) -> Result<(), Failure> {
        let Member { link, scanner, checker } = &mut self.members[i];
        let start = scanner.tail().len();
        self.buffer[..start].copy_from_slice(scanner.tail());
        let result = link.read(&mut self.buffer[start..start + CHUNK]);
        link.over().map_or(Ok(()), Err)?;
        match result {
            Ok(0) => Err(ended(scanner.tail(), None)),
            Ok(count) => {
                let now = Instant::now();
                let time = u64::try_from((now - self.epoch).as_nanos()).unwrap_or(u64::MAX);
                scanner.scan(&self.format, &self.buffer[..start + count], |found| match found {
                    Found::Message(stamp) if checker.take(stamp.index) => {
                        self.deliveries += 1;
                        self.moved = now;
                        if let Some(times) = &mut self.times {
                            times.record(time.saturating_sub(stamp.time));
                        }
                    }
                    Found::Message(_) => {}
                    Found::Damaged => checker.damaged(),
                });
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(ended(scanner.tail(), Some(&error))),
        }
    }

    /// Begins to measure: counts deliveries from here on, and their times if they are wanted.
    pub(super) fn measure(&mut self, times: bool) {
        self.deliveries = 0;
        self.times = times.then(Histogram::default);
    }

    /// How long deliveries took since [`Swarm::measure`], where that was wanted.
    pub(super) fn take_times(&mut self) -> Option<Histogram> {
        self.times.take()
    }

    /// How many messages were received since [`Swarm::measure`], by all together.
    pub(super) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// How many messages were published.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// How many of them every receiver has got, as of the last turn.
    pub(super) fn slowest(&self) -> u64 {
        self.slowest
    }

    /// Whether the publisher receives what it says itself.
    pub(super) fn echoes(&self) -> bool {
        self.members[PUBLISHER].checker.has_begun()
    }

    /// How many other connections there are, and how many of them have received anything.
    pub(super) fn receivers(&self) -> (usize, usize) {
        let others = &self.members[PUBLISHER + 1..];
        (others.len(), others.iter().filter(|member| member.checker.has_begun()).count())
    }

    /// Whether something has come that was no message of ours, where none of ours has.
    pub(super) fn heard_others(&self) -> bool {
        self.members.iter().any(|member| member.scanner.heard_others())
    }

    /// What was wrong, of all receivers together, and how many of them it was wrong for.
    pub(super) fn faults(&self) -> (Faults, usize) {
        let mut sum = Faults::default();
        self.members.iter().for_each(|member| sum += member.checker.faults());
        (sum, self.members.iter().filter(|member| member.checker.faults().any()).count())
    }

    /// Upcalls of what others said, as the first receiver has them.
    pub(super) fn foreign(&self) -> u64 {
        self.members.iter().map(|member| member.scanner.foreign()).max().unwrap_or(0)
    }
}

fn cannot_wait(error: Errno) -> Failure {
    Failure::new(Status::Io, format!("cannot wait for the connections: {error}"))
}

#[cfg(test)]
mod tests;
