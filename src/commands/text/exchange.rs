//! The loop between a link, a source and a sink. It sends and receives at the same time, so that neither side can block
//! the other.
//!
//! Knows neither the origin of the inputs, nor the destination of the upcalls, nor the transport of the link.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::poll::PollFlags;

use super::link::{Link, LinkEnd, OnUpcall};
use super::sink::Sink;
use super::source::LineSource;
use crate::commands::failure::Failure;
use crate::commands::poll;
use crate::exit::Status;

/// The parts of an exchange.
pub(super) struct Exchange<'a> {
    pub(super) link: &'a mut dyn Link,
    /// The inputs to send. Without a source, the exchange only receives.
    pub(super) source: Option<LineSource>,
    pub(super) sink: &'a mut dyn Sink,
    /// The time at which the exchange ends in any case.
    pub(super) deadline: Option<Instant>,
    /// Ends the exchange when it becomes readable.
    pub(super) stop: Option<BorrowedFd<'a>>,
    /// The output of the sink. It is polled, so that the end of its reader is noticed even if no upcalls arrive.
    pub(super) output: Option<BorrowedFd<'a>>,
}

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum ExchangeEnd {
    /// The link ended.
    Link(LinkEnd),
    /// The sink wants no more upcalls.
    Enough,
    /// The reader of our output is gone.
    OutputClosed,
    /// The deadline has passed.
    TimedOut,
    /// `stop` became readable.
    Stopped,
}

impl Exchange<'_> {
    /// Runs until something ends the exchange, and leaves the daemon.
    ///
    /// # Errors
    ///
    /// Reading the source, writing the sink, or waiting failed.
    pub(super) fn run(mut self) -> Result<ExchangeEnd, Failure> {
        let end = loop {
            if let Some(end) = self.turn().transpose() {
                break end;
            }
        };
        self.link.leave();
        end
    }

    fn turn(&mut self) -> Result<Option<ExchangeEnd>, Failure> {
        let wanted = self.source.as_mut().and_then(|source| source.fill(self.link.out()));
        let room = if self.link.wants_room() { PollFlags::POLLOUT } else { PollFlags::empty() };
        let waits = [
            Some((self.link.fd(), PollFlags::POLLIN | room)),
            wanted.map(|fd| (fd, PollFlags::POLLIN)),
            self.stop.map(|fd| (fd, PollFlags::POLLIN)),
            self.output.map(|fd| (fd, PollFlags::empty())),
        ];
        let until = [self.link.due(), self.deadline].into_iter().flatten().min();
        let [socket, input, stop, output] = poll::try_wait(waits, until)
            .map_err(|error| Failure::new(Status::Io, format!("cannot wait for the daemon: {error}")))?;

        if stop {
            return Ok(Some(ExchangeEnd::Stopped));
        }
        if output {
            return Ok(Some(ExchangeEnd::OutputClosed));
        }
        if input && let Some(source) = &mut self.source {
            source.read(self.link.out())?;
        }
        if socket && let Some(end) = self.pass_upcalls(|link, on_upcall| link.receive(on_upcall))? {
            return Ok(Some(end));
        }
        if let Some(end) = self.send() {
            return Ok(Some(ExchangeEnd::Link(end)));
        }
        let end = self.pass_upcalls(|link, on_upcall| link.expire(on_upcall))?;
        let late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        Ok(end.or(late.then_some(ExchangeEnd::TimedOut)))
    }

    /// Passes upcalls from the link to the sink. If both end, the end of the sink (its reader is gone, or it wants no
    /// more) takes precedence.
    fn pass_upcalls(
        &mut self,
        act: impl FnOnce(&mut dyn Link, &mut OnUpcall<'_>) -> Option<LinkEnd>,
    ) -> Result<Option<ExchangeEnd>, Failure> {
        let mut flow = ControlFlow::Continue(());
        let end = act(self.link, &mut |upcall| {
            flow = self.sink.upcall(upcall);
            flow
        });
        Ok(match (self.sink.flush()?, flow) {
            (ControlFlow::Break(()), _) => Some(ExchangeEnd::OutputClosed),
            (_, ControlFlow::Break(())) => Some(ExchangeEnd::Enough),
            _ => end.map(ExchangeEnd::Link),
        })
    }

    fn send(&mut self) -> Option<LinkEnd> {
        let end = self.link.send(self.source.as_ref().is_some_and(LineSource::is_exhausted));
        if !self.link.is_writable()
            && let Some(source) = &mut self.source
        {
            source.abandon();
        }
        end
    }
}
