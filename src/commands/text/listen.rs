//! `upcall-client listen --protocol text`: prints upcalls as they arrive, and reconnects when the connection is lost.
//! It never sends an input.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::poll::PollFlags;
use upcall_client::socket::stream::CONNECT_TIMEOUT;
use upcall_wire::address::Address;

use super::connect::{catch_signals, connect};
use super::exchange::{Exchange, ExchangeEnd};
use super::link::{LinkEnd, LinkOptions};
use super::render::TextStyle;
use super::sink::Printer;
use crate::cli::ListenOptions;
use crate::commands::failure::Failure;
use crate::commands::poll;
use crate::commands::reconnect::{OutageReport, backoff};
use crate::commands::terminal::output::{Output, notice};
use crate::commands::terminal::signals::CaughtSignals;
use crate::exit::Status;

/// A connection that lasted this long resets the backoff. After a shorter one, the delay grows further.
const LASTING: Duration = Duration::from_secs(5);

/// Prints upcalls until `--count` or `--timeout` is reached, the reader of the output is gone, or no connection can be
/// made.
pub(in crate::commands) fn run(address: &Address, options: &ListenOptions) -> Result<(), Failure> {
    let output = Output::stdout()?;
    let style = if options.json { TextStyle::Json } else { TextStyle::unless_terminal(TextStyle::Lines) };
    let mut listener = TextListener {
        address,
        options,
        output: &output,
        printer: Printer::new(&output, style, options.count),
        deadline: options.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        signals: catch_signals(address)?,
        admission: Admission::Never,
        outage: OutageReport::default(),
    };
    listener.release_signals();
    listener.listen()
}

struct TextListener<'a> {
    address: &'a Address,
    options: &'a ListenOptions,
    output: &'a Output,
    printer: Printer<'a>,
    deadline: Option<Instant>,
    /// Held while we are registered and have to leave.
    signals: Option<CaughtSignals>,
    admission: Admission,
    outage: OutageReport,
}

/// Whether the daemon has admitted us, as far as the last attempts show.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Admission {
    /// It never has.
    Never,
    /// It has, at the last attempt that reached it.
    Admitted,
    /// It has before, but refused the last time.
    RefusedSince,
}

/// How an attempt ended, if it may be followed by another.
struct Lost {
    failure: Failure,
    /// Another attempt would have the same result.
    is_final: bool,
}

impl TextListener<'_> {
    fn listen(&mut self) -> Result<(), Failure> {
        let mut backoff = backoff();
        let mut random = Rng::new();
        loop {
            let started = Instant::now();
            let lost = match self.attempt() {
                Ok(end) => return end,
                Err(lost) => lost,
            };
            let again = &self.options.again;
            let retry = if self.admission == Admission::Never { again.retry } else { !again.no_reconnect };
            if lost.is_final || !retry {
                return Err(lost.failure);
            }
            if started.elapsed() >= LASTING {
                backoff.reset();
            }
            let delay = backoff.next(&mut random);
            self.outage.lost(&lost.failure);
            if let Some(end) = self.wait(delay) {
                return end;
            }
        }
    }

    /// Connects and prints. An outer error means that another attempt may follow.
    fn attempt(&mut self) -> Result<Result<(), Failure>, Lost> {
        let left = self.deadline.map_or(CONNECT_TIMEOUT, |deadline| deadline.saturating_duration_since(Instant::now()));
        let options = LinkOptions { timeout: left.min(CONNECT_TIMEOUT), linger: Duration::ZERO, echo: true };
        let mut link = match connect(self.address, options) {
            Ok(link) => link,
            Err(_) if self.is_late() => return Ok(self.timed_out()),
            Err(failure) => return Err(Lost { is_final: failure.status() == Status::Denied, failure }),
        };
        // After a refusal, this connection may be refused as well, so it is not reported yet.
        if self.admission == Admission::Admitted {
            self.outage.restored();
            let what = if self.address.transport().is_datagram() { "joined" } else { "connected to" };
            notice(&format!("{what} {} again", self.address));
        }
        if let Some(signals) = &self.signals {
            signals.hold();
        }
        let exchange = Exchange {
            link: &mut *link,
            source: None,
            sink: &mut self.printer,
            deadline: self.deadline,
            stop: self.signals.as_ref().map(AsFd::as_fd),
            output: Some(self.output.as_fd()),
        };
        let end = exchange.run();
        self.release_signals();
        match end {
            Ok(end) => {
                self.note_admission(&end);
                self.outcome(end)
            }
            Err(failure) => Ok(Err(failure)),
        }
    }

    fn note_admission(&mut self, end: &ExchangeEnd) {
        let refused = matches!(
            end,
            ExchangeEnd::Link(LinkEnd::Closed { farewell: Some(farewell), .. }) if farewell.is_refusal()
        );
        self.admission = match (refused, self.admission) {
            (false, _) => Admission::Admitted,
            (true, Admission::Never) => Admission::Never,
            (true, _) => Admission::RefusedSince,
        };
    }

    fn outcome(&self, end: ExchangeEnd) -> Result<Result<(), Failure>, Lost> {
        match end {
            ExchangeEnd::Link(LinkEnd::Closed { farewell: Some(farewell), .. }) => {
                Err(Lost { failure: Failure::from(&farewell), is_final: farewell.is_final() })
            }
            ExchangeEnd::Link(LinkEnd::Closed { .. }) => {
                let message = format!("{} closed the connection and gave no reason", self.address);
                Err(Lost { failure: Failure::new(Status::Refused, message), is_final: false })
            }
            ExchangeEnd::Link(LinkEnd::Broken(error)) => {
                let message = format!("the connection to {} broke: {error}", self.address);
                Err(Lost { failure: Failure::new(Status::Io, message), is_final: false })
            }
            ExchangeEnd::Link(LinkEnd::Failed(failure)) => {
                Err(Lost { is_final: failure.status() == Status::Denied, failure })
            }
            ExchangeEnd::TimedOut => Ok(self.timed_out()),
            // A reader that closes our output has read as much as it wanted.
            ExchangeEnd::Enough
            | ExchangeEnd::OutputClosed
            | ExchangeEnd::Stopped
            | ExchangeEnd::Link(LinkEnd::Lingered { .. } | LinkEnd::Sent) => Ok(Ok(())),
        }
    }

    /// Waits before the next attempt. Returns the result of the command if it ends before that.
    fn wait(&self, delay: Duration) -> Option<Result<(), Failure>> {
        let until = Instant::now() + delay;
        let until = self.deadline.map_or(until, |deadline| deadline.min(until));
        // A signal may interrupt the wait; then wait again.
        while Instant::now() < until {
            let [reader_gone] = poll::wait([Some((self.output.as_fd(), PollFlags::empty()))], Some(until));
            if reader_gone {
                return Some(Ok(()));
            }
        }
        self.is_late().then(|| self.timed_out())
    }

    /// While we are not registered, there is nothing to leave: signals end the program at once.
    fn release_signals(&self) {
        if let Some(signals) = &self.signals {
            signals.release();
        }
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    fn timed_out(&self) -> Result<(), Failure> {
        match self.options.count {
            None if self.admission != Admission::Never => Ok(()),
            None => Err(Failure::new(Status::TimedOut, format!("{} could not be reached in time", self.address))),
            Some(count) => Err(Failure::too_few_upcalls(count)),
        }
    }
}
