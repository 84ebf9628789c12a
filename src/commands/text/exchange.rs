//! The loop between a link and the rest of the program: sends what a source has, hands upcalls to a sink, both at once, so
//! that neither side can block the other.
//!
//! Knows neither where inputs come from nor where upcalls go, nor what the link is made of.

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::link::{End, Link, Take};
use super::source::Source;
use crate::commands::failure::Failure;
use crate::exit::Status;

/// Where upcalls go.
pub(in crate::commands) trait Sink {
    /// Takes an upcall, its newline included if it had one; breaks when it wants no more.
    fn upcall(&mut self, upcall: &[u8]) -> ControlFlow<()>;

    /// Shows what it was given since the last time.
    fn flush(&mut self) -> io::Result<()>;
}

/// What an exchange is made of.
pub(super) struct Exchange<'a> {
    pub(super) link: &'a mut dyn Link,
    /// What to send; with none, we stay and say nothing.
    pub(super) source: Option<Source>,
    pub(super) sink: &'a mut dyn Sink,
    /// When to end in any case.
    pub(super) deadline: Option<Instant>,
    /// Ends the exchange when it becomes readable.
    pub(super) stop: Option<BorrowedFd<'a>>,
    /// Where the sink writes: that its reader has gone is noticed even while nothing comes.
    pub(super) output: Option<BorrowedFd<'a>>,
}

impl Exchange<'_> {
    /// Runs until something ends it, and leaves; fails when the source cannot be read or the sink not be written.
    pub(super) fn run(mut self) -> Result<End, Failure> {
        let end = loop {
            if let Some(end) = self.turn().transpose() {
                break end;
            }
        };
        self.link.leave();
        end
    }

    fn turn(&mut self) -> Result<Option<End>, Failure> {
        let wanted = self.source.as_mut().and_then(|source| source.fill(self.link.out()));
        let room = if self.link.wants_room() { PollFlags::POLLOUT } else { PollFlags::empty() };
        let waits = [
            Some(PollFd::new(self.link.fd(), PollFlags::POLLIN | room)),
            wanted.map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
            self.stop.map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
            self.output.map(|fd| PollFd::new(fd, PollFlags::empty())),
        ];
        let mut fds: Vec<PollFd<'_>> = waits.iter().flatten().cloned().collect();

        let next = [self.link.due(), self.deadline].into_iter().flatten().min();
        match poll(&mut fds, timeout(next, Instant::now())) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Failure::new(Status::Io, format!("cannot wait for the daemon: {error}"))),
        }
        let mut polled = fds.iter();
        let [socket, input, stop, output] =
            waits.map(|wait| wait.is_some() && polled.next().is_some_and(|fd| fd.any().unwrap_or(true)));

        if stop {
            return Ok(Some(End::Stopped));
        }
        if output {
            return Ok(Some(End::OutputClosed));
        }
        if input && let Some(source) = &mut self.source {
            source.read(self.link.out())?;
        }
        if socket && let Some(end) = self.pass(|link, take| link.receive(take))? {
            return Ok(Some(end));
        }
        if let Some(end) = self.send() {
            return Ok(Some(end));
        }
        let end = self.pass(|link, take| link.expire(take))?;
        let late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        Ok(end.or(late.then_some(End::TimedOut)))
    }

    /// Lets the link hand upcalls to the sink. That the sink has enough, or cannot show them, comes before whatever
    /// else has ended.
    fn pass(&mut self, act: impl FnOnce(&mut dyn Link, &mut Take<'_>) -> Option<End>) -> Result<Option<End>, Failure> {
        let mut flow = ControlFlow::Continue(());
        let end = act(self.link, &mut |upcall| {
            flow = self.sink.upcall(upcall);
            flow
        });
        match self.sink.flush() {
            Ok(()) => Ok(if flow.is_break() { Some(End::Enough) } else { end }),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Some(End::OutputClosed)),
            Err(error) => Err(Failure::output(&error)),
        }
    }

    fn send(&mut self) -> Option<End> {
        let end = self.link.send(self.source.as_ref().is_some_and(Source::is_exhausted));
        if !self.link.takes_more()
            && let Some(source) = &mut self.source
        {
            source.abandon();
        }
        end
    }
}

/// Until then, rounded up: a poll that wakes too early would only poll again.
fn timeout(until: Option<Instant>, now: Instant) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    let left = until.saturating_duration_since(now);
    let left = if left.is_zero() { left } else { left + Duration::from_millis(1) };
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
