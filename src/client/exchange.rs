//! The loop between a connection and the rest of the program: sends what a source has, hands upcalls to a sink, both at
//! once, so that neither side can block the other.
//!
//! Knows neither where inputs come from nor where upcalls go.

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::connection::Connection;
use super::failure::Failure;
use super::farewell::Farewell;
use super::source::Source;
use super::splitter::Splitter;
use crate::exit::Status;

/// Read from the socket at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// Where upcalls go.
pub(super) trait Sink {
    /// Takes an upcall, its newline included if it had one; breaks when it wants no more.
    fn upcall(&mut self, upcall: &[u8]) -> ControlFlow<()>;

    /// Shows what it was given since the last time.
    fn flush(&mut self) -> io::Result<()>;
}

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum End {
    /// The daemon closed the connection.
    Closed {
        /// Why, where it said so.
        farewell: Option<Farewell>,
        /// Everything had been sent and our side closed: the daemon has taken it all.
        complete: bool,
    },
    /// The connection broke.
    Broken(io::Error),
    /// Everything was sent, and the daemon did not close within the time allowed.
    Lingered {
        /// Some of it never left this machine.
        unsent: bool,
    },
    /// The sink has enough.
    Enough,
    /// Whoever read our output is gone.
    OutputClosed,
    /// The deadline has passed.
    TimedOut,
    /// `stop` became readable.
    Stopped,
}

/// What an exchange is made of.
pub(super) struct Exchange<'a> {
    pub(super) connection: &'a mut Connection,
    /// What to send; with none, our side stays open and silent.
    pub(super) source: Option<Source>,
    pub(super) sink: &'a mut dyn Sink,
    /// How long to wait for the daemon to close once the source is at its end.
    pub(super) linger: Duration,
    /// When to end in any case.
    pub(super) deadline: Option<Instant>,
    /// Ends the exchange when it becomes readable.
    pub(super) stop: Option<BorrowedFd<'a>>,
    /// Where the sink writes: that its reader has gone is noticed even while nothing comes.
    pub(super) output: Option<BorrowedFd<'a>>,
}

impl Exchange<'_> {
    /// Runs until something ends it; fails when the source cannot be read or the sink not be written.
    pub(super) fn run(mut self) -> Result<End, Failure> {
        let mut state = State::default();
        loop {
            if let Some(end) = self.turn(&mut state)? {
                return Ok(end);
            }
        }
    }

    fn turn(&mut self, state: &mut State) -> Result<Option<End>, Failure> {
        let wanted = self.source.as_mut().and_then(|source| source.fill(&mut state.out));
        let socket_events =
            if state.out.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT };
        let waits = [
            Some(PollFd::new(self.connection.as_fd(), socket_events)),
            wanted.map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
            self.stop.map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
            self.output.map(|fd| PollFd::new(fd, PollFlags::empty())),
        ];
        let mut fds: Vec<PollFd<'_>> = waits.iter().flatten().cloned().collect();

        let now = Instant::now();
        let quiet = state.splitter.patience().map(|patience| state.last_read + patience);
        let next = [quiet, state.linger_until, self.deadline].into_iter().flatten().min();
        match poll(&mut fds, timeout(next, now)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Failure::new(Status::Io, format!("cannot wait for the connection: {error}"))),
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
            source.read(&mut state.out)?;
        }
        if socket && let Some(end) = self.receive(state)? {
            return Ok(Some(end));
        }
        self.send(state);
        self.expire(state)
    }

    /// Reads once, and hands on what has come.
    fn receive(&mut self, state: &mut State) -> Result<Option<End>, Failure> {
        let mut buffer = std::mem::take(&mut state.buffer);
        buffer.resize(CHUNK, 0);
        let result = self.connection.read(&mut buffer);
        state.buffer = buffer;
        match result {
            Ok(0) => {
                let (rest, farewell) = std::mem::take(&mut state.splitter).finish();
                let flow = if rest.is_empty() { ControlFlow::Continue(()) } else { self.sink.upcall(&rest) };
                if let Some(end) = self.flush(flow)? {
                    return Ok(Some(end));
                }
                Ok(Some(match state.write_error.take() {
                    Some(error) if farewell.is_none() && error.kind() != ErrorKind::BrokenPipe => End::Broken(error),
                    _ => End::Closed { farewell, complete: state.half_closed },
                }))
            }
            Ok(n) => {
                state.last_read = Instant::now();
                state.splitter.push(&state.buffer[..n]);
                let flow = state.splitter.lines(|line| self.sink.upcall(line));
                self.flush(flow)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(error) => {
                // What came before the break was said all the same.
                let (rest, farewell) = std::mem::take(&mut state.splitter).finish();
                let flow = if rest.is_empty() { ControlFlow::Continue(()) } else { self.sink.upcall(&rest) };
                let end = self.flush(flow)?;
                Ok(Some(end.unwrap_or(match farewell {
                    Some(_) => End::Closed { farewell, complete: false },
                    None => End::Broken(error),
                })))
            }
        }
    }

    fn flush(&mut self, flow: ControlFlow<()>) -> Result<Option<End>, Failure> {
        match self.sink.flush() {
            Ok(()) => Ok(flow.is_break().then_some(End::Enough)),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Some(End::OutputClosed)),
            Err(error) => Err(Failure::output(&error)),
        }
    }

    /// Writes what fits, and closes our side behind the last of it.
    fn send(&mut self, state: &mut State) {
        while !state.out.is_empty() {
            match self.connection.write(&state.out) {
                Ok(n) => {
                    state.out.drain(..n);
                    state.linger_until = state.linger_until.map(|_| Instant::now() + self.linger);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // Why is still to be read: the farewell, or the reset.
                    state.write_error = Some(error);
                    state.out.clear();
                    if let Some(source) = &mut self.source {
                        source.abandon();
                    }
                }
            }
        }
        let exhausted = self.source.as_ref().is_some_and(Source::is_exhausted);
        if exhausted && state.linger_until.is_none() {
            // From here on every byte that the daemon takes renews it, so that only a standstill counts.
            state.linger_until = Some(Instant::now() + self.linger);
        }
        if exhausted && state.out.is_empty() && state.write_error.is_none() && !state.half_closed {
            // Where the connection is gone already, the next read says so.
            state.half_closed = self.connection.half_close().is_ok();
            state.linger_until = Some(Instant::now() + self.linger);
        }
    }

    fn expire(&mut self, state: &mut State) -> Result<Option<End>, Failure> {
        let now = Instant::now();
        if state.splitter.patience().is_some_and(|patience| state.last_read + patience <= now) {
            let upcall = state.splitter.quiet();
            let flow = self.sink.upcall(&upcall);
            if let Some(end) = self.flush(flow)? {
                return Ok(Some(end));
            }
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Ok(Some(End::TimedOut));
        }
        if state.linger_until.is_some_and(|until| until <= now) {
            return Ok(Some(End::Lingered { unsent: !state.half_closed }));
        }
        Ok(None)
    }
}

struct State {
    splitter: Splitter,
    buffer: Vec<u8>,
    last_read: Instant,
    /// To be written to the socket.
    out: Vec<u8>,
    half_closed: bool,
    linger_until: Option<Instant>,
    write_error: Option<io::Error>,
}

impl Default for State {
    fn default() -> State {
        State {
            splitter: Splitter::default(),
            buffer: Vec::new(),
            last_read: Instant::now(),
            out: Vec::new(),
            half_closed: false,
            linger_until: None,
            write_error: None,
        }
    }
}

/// Until then, rounded up: a poll that wakes too early would only poll again.
fn timeout(until: Option<Instant>, now: Instant) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    let left = until.saturating_duration_since(now);
    let left = if left.is_zero() { left } else { left + Duration::from_millis(1) };
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
