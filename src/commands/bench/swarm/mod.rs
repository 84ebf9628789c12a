//! The loop that drives all connections of a bench in one thread: the first connection publishes; all of them receive
//! and are checked.
//!
//! Must not know transports or modes. Everything is nonblocking. If messages are outstanding and nothing is sent or
//! received for the timeout, the bench fails.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::checker::{Checker, Faults};
use super::histogram::Histogram;
use super::link::{BenchLink, unexpected_end};
use super::message::{MessageFormat, Stamp};
use super::publish_buffer::PublishBuffer;
use super::renewals::Renewals;
use super::scanner::{Finding, Scanner};
use crate::commands::failure::Failure;
use crate::exit::Status;

/// How many bytes are read at a time.
const CHUNK: usize = 256 << 10;

/// How many events are handled at a time.
const EVENTS: usize = 1_024;

/// On lossy links, outstanding messages count as lost after this time without progress.
const LOST_AFTER: Duration = Duration::from_millis(200);

/// Sent before the first message. Until a daemon has received a newline, it treats every pause as the end of a message,
/// and a large message is rarely sent without a pause.
const PREAMBLE: &[u8] = b"bench\n";

/// The index of the connection that publishes.
const PUBLISHER: usize = 0;

struct Member {
    link: Box<dyn BenchLink>,
    scanner: Scanner,
    checker: Checker,
}

/// The connections of a bench.
pub(super) struct Swarm {
    members: Vec<Member>,
    epoll: Epoll,
    events: Vec<EpollEvent>,
    buffer: Vec<u8>,
    format: MessageFormat,
    epoch: Instant,
    timeout: Duration,
    /// When something was last sent or received, or nothing was outstanding.
    last_progress: Instant,
    out: PublishBuffer,
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
            // Room for a read and the tail before it: less than one message, or the bytes that a scanner keeps.
            buffer: vec![0; CHUNK + size + 64],
            format: MessageFormat::new(run, size),
            epoch: Instant::now(),
            timeout,
            last_progress: Instant::now(),
            out: PublishBuffer::default(),
            sent: 0,
            slowest: 0,
            deliveries: 0,
            times: None,
            renewals: Renewals::default(),
        })
    }

    /// Takes over connections. The caller must not read or write them any more.
    pub(super) fn add(&mut self, links: Vec<Box<dyn BenchLink>>) -> Result<(), Failure> {
        for link in links {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, self.members.len() as u64);
            self.epoll.add(&link, event).map_err(cannot_wait)?;
            if link.is_lossy() {
                self.renewals.add(Instant::now(), self.members.len());
            }
            self.members.push(Member { link, scanner: Scanner::default(), checker: Checker::default() });
        }
        Ok(())
    }

    /// Sends the preamble, which is not a message of the run. The publisher must not have sent anything before.
    pub(super) fn send_preamble(&mut self) {
        self.out.bytes().extend_from_slice(PREAMBLE);
        // A new connection has room for this much. If it is broken, the next read returns the reason.
        self.out.send(self.members[PUBLISHER].link.as_mut(), PREAMBLE.len());
    }

    /// Publishes up to `count` messages: as many as the socket accepts, and a little more. Returns how many.
    pub(super) fn publish(&mut self, count: u64) -> Result<u64, Failure> {
        let mut left = count;
        if self.slowest == self.sent && left > 0 {
            // Nothing was outstanding, so the timeout starts now.
            self.last_progress = Instant::now();
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

    /// Waits up to `wait`, in whole milliseconds, for events, and handles them.
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
                // On some links, reading makes room for sending.
                if member == PUBLISHER && self.out.is_full() {
                    self.write()?;
                }
            }
        }
        self.slowest = self.participants().map(|member| member.checker.next()).min().unwrap_or(self.sent);
        if self.slowest < self.sent || !self.out.is_empty() { self.check_progress() } else { Ok(()) }
    }

    /// Sleeps until there is an event or the time is over, which may be less than a millisecond.
    pub(super) fn sleep(&self, time: Duration) {
        // The reason for the wakeup does not matter: the next turn looks for events.
        let _ = ppoll(&mut [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)], Some(time.into()), None);
    }

    fn participants(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.checker.has_begun())
    }

    /// Fails if there was no progress for the timeout. On lossy links, counts outstanding messages as lost before that.
    fn check_progress(&mut self) -> Result<(), Failure> {
        let silence = self.last_progress.elapsed();
        let is_lossy = self.members[PUBLISHER].link.is_lossy();
        if is_lossy && silence >= LOST_AFTER && self.out.is_empty() {
            for member in &mut self.members {
                member.checker.give_up(self.sent);
            }
            self.slowest = self.sent;
        } else if silence >= self.timeout {
            return Err(self.no_progress());
        }
        Ok(())
    }

    fn no_progress(&self) -> Failure {
        let time = humantime::format_duration(self.timeout);
        let participants = self.participants().count();
        let behind = self.participants().filter(|member| member.checker.next() < self.sent).count();
        let message = if self.out.is_empty() {
            format!(
                "nothing was received for {time}: {behind} of {participants} receivers do not have all of {} messages, \
                 the slowest {}; is the daemon stuck?",
                self.sent, self.slowest
            )
        } else {
            format!("the daemon has accepted nothing for {time}; is it stuck?")
        };
        Failure::new(Status::TimedOut, message)
    }

    fn write(&mut self) -> Result<(), Failure> {
        let was_full = self.out.is_full();
        let publisher = &mut self.members[PUBLISHER];
        if self.out.send(publisher.link.as_mut(), self.format.size()) {
            self.last_progress = Instant::now();
        }
        publisher.link.take_failure().map_or(Ok(()), Err)?;
        if self.out.is_full() == was_full {
            return Ok(());
        }
        let also = if was_full { EpollFlags::empty() } else { EpollFlags::EPOLLOUT };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | also, PUBLISHER as u64);
        self.epoll.modify(&publisher.link, &mut event).map_err(cannot_wait)
    }

    /// Reads once. A link that has more to read is ready again in the next turn.
    fn read(&mut self, i: usize) -> Result<(), Failure> {
        let Member { link, scanner, checker } = &mut self.members[i];
        let start = scanner.tail().len();
        self.buffer[..start].copy_from_slice(scanner.tail());
        let result = link.read(&mut self.buffer[start..start + CHUNK]);
        link.take_failure().map_or(Ok(()), Err)?;
        match result {
            Ok(0) => Err(unexpected_end(scanner.tail(), None)),
            Ok(count) => {
                let now = Instant::now();
                let time = u64::try_from((now - self.epoch).as_nanos()).unwrap_or(u64::MAX);
                scanner.scan(&self.format, &self.buffer[..start + count], |found| match found {
                    Finding::Message(stamp) if checker.record(stamp.index) => {
                        self.deliveries += 1;
                        self.last_progress = now;
                        if let Some(times) = &mut self.times {
                            times.record(time.saturating_sub(stamp.time));
                        }
                    }
                    Finding::Message(_) => {}
                    Finding::Damaged => checker.damaged(),
                });
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(unexpected_end(scanner.tail(), Some(&error))),
        }
    }

    /// Starts a measurement: counts deliveries from now on, and records their times if `times` is set.
    pub(super) fn measure(&mut self, times: bool) {
        self.deliveries = 0;
        self.times = times.then(Histogram::default);
    }

    /// The times of the deliveries since [`Swarm::measure`], if they were recorded.
    pub(super) fn take_times(&mut self) -> Option<Histogram> {
        self.times.take()
    }

    /// How many messages all connections together have received since [`Swarm::measure`].
    pub(super) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// How many messages were published.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// How many of them every receiver had received at the end of the last turn.
    pub(super) fn slowest(&self) -> u64 {
        self.slowest
    }

    /// Whether the publisher has received any of its own messages.
    pub(super) fn echoes(&self) -> bool {
        self.members[PUBLISHER].checker.has_begun()
    }

    /// How many other connections there are, and how many of them have received anything.
    pub(super) fn receivers(&self) -> (usize, usize) {
        let others = &self.members[PUBLISHER + 1..];
        (others.len(), others.iter().filter(|member| member.checker.has_begun()).count())
    }

    /// Whether a connection has received something, but none of our messages.
    pub(super) fn has_only_foreign(&self) -> bool {
        self.members.iter().any(|member| member.scanner.has_only_foreign())
    }

    /// The faults of all receivers together, and how many receivers have any.
    pub(super) fn faults(&self) -> (Faults, usize) {
        let mut sum = Faults::default();
        self.members.iter().for_each(|member| sum += member.checker.faults());
        (sum, self.members.iter().filter(|member| member.checker.faults().any()).count())
    }

    /// The number of upcalls of other senders, as counted by the receiver with the most.
    pub(super) fn foreign(&self) -> u64 {
        self.members.iter().map(|member| member.scanner.foreign()).max().unwrap_or(0)
    }
}

fn cannot_wait(error: Errno) -> Failure {
    Failure::new(Status::Io, format!("cannot wait for the connections: {error}"))
}

#[cfg(test)]
mod tests;
