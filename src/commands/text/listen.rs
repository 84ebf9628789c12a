//! `upcall-client listen`: prints upcalls as they come, and comes back when the connection is lost. It sends no input, ever.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::exchange::Exchange;
use super::link::{self, End, Manner};
use crate::cli::Listen;
use crate::commands::failure::{Failure, say};
use crate::commands::terminal::output::{Output, Printer, Style};
use crate::commands::terminal::signals::Signals;
use crate::exit::Status;
use upcall_client::backoff::Backoff;
use upcall_client::socket::stream::CONNECT_TIMEOUT;
use upcall_wire::address::Address;

const BACKOFF_BASE: Duration = Duration::from_millis(500);
const BACKOFF_CAP: Duration = Duration::from_secs(30);

/// A connection that stood this long was a success; a shorter one does not shorten the wait for the next.
const LASTING: Duration = Duration::from_secs(5);

/// Prints upcalls until there were enough, the time is over, nobody reads them, or the connection cannot be had.
pub(in crate::commands) fn run(address: &Address, options: &Listen) -> Result<(), Failure> {
    let output = Output::stdout().map_err(|error| Failure::output(&error))?;
    let style = if options.json { Style::Json } else { Style::unless_terminal(Style::Lines) };
    let mut listener = Listener {
        address,
        options,
        output: &output,
        printer: Printer::new(&output, style, options.count),
        deadline: options.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        signals: Signals::catch_for(address)?,
        admitted: false,
        refused: false,
        told: None,
    };
    listener.release();
    listener.listen()
}

struct Listener<'a> {
    address: &'a Address,
    options: &'a Listen,
    output: &'a Output,
    printer: Printer<'a>,
    deadline: Option<Instant>,
    /// Held while there is somebody to say goodbye to.
    signals: Option<Signals>,
    /// The daemon has let us in at least once.
    admitted: bool,
    /// The last time, it has not.
    refused: bool,
    /// What was said of the last loss: a daemon that stays away is no news.
    told: Option<Failure>,
}

/// How an attempt ended that could be followed by another.
struct Lost {
    failure: Failure,
    /// No other attempt would fare better.
    finally: bool,
}

impl Listener<'_> {
    fn listen(&mut self) -> Result<(), Failure> {
        let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_CAP);
        let mut random = Rng::new();
        loop {
            let begun = Instant::now();
            let lost = match self.attempt() {
                Ok(end) => return end,
                Err(lost) => lost,
            };
            let again = if self.admitted { !self.options.again.no_reconnect } else { self.options.again.retry };
            if lost.finally || !again {
                return Err(lost.failure);
            }
            if begun.elapsed() >= LASTING {
                backoff.reset();
            }
            let delay = backoff.next(&mut random);
            if self.told.as_ref() != Some(&lost.failure) {
                let longest = humantime::format_duration(BACKOFF_CAP);
                say(&format!("{} (trying again, every {longest} at the least)", lost.failure));
                self.told = Some(lost.failure);
            }
            if let Some(end) = self.wait(delay) {
                return end;
            }
        }
    }

    /// Connects and prints. The outer result says whether to try again.
    fn attempt(&mut self) -> Result<Result<(), Failure>, Lost> {
        let left = self.deadline.map_or(CONNECT_TIMEOUT, |deadline| deadline.saturating_duration_since(Instant::now()));
        let manner = Manner { timeout: left.min(CONNECT_TIMEOUT), linger: Duration::ZERO, echo: true };
        let mut link = match link::open(self.address, manner) {
            Ok(link) => link,
            Err(_) if self.is_late() => return Ok(self.timed_out()),
            Err(failure) => return Err(Lost { finally: failure.status() == Status::Denied, failure }),
        };
        // Whoever was not let in may not be now.
        if self.admitted && !self.refused {
            self.told = None;
            let what = if self.address.transport().is_datagram() { "joined" } else { "connected to" };
            say(&format!("{what} {} again", self.address));
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
        self.release();
        let end = match end {
            Ok(end) => end,
            Err(failure) => return Ok(Err(failure)),
        };
        let refused = matches!(&end, End::Closed { farewell: Some(farewell), .. } if farewell.is_refusal());
        self.admitted |= !refused;
        self.refused = refused;
        match end {
            End::Closed { farewell: Some(farewell), .. } => {
                Err(Lost { failure: Failure::from(&farewell), finally: farewell.is_final() })
            }
            End::Closed { .. } => {
                let message = format!("{} closed the connection and did not say why", self.address);
                Err(Lost { failure: Failure::new(Status::Refused, message), finally: false })
            }
            End::Broken(error) => {
                let message = format!("the connection to {} broke: {error}", self.address);
                Err(Lost { failure: Failure::new(Status::Io, message), finally: false })
            }
            End::Failed(failure) => Err(Lost { finally: failure.status() == Status::Denied, failure }),
            End::TimedOut => Ok(self.timed_out()),
            // Whoever has read enough of us is content.
            End::Enough | End::OutputClosed | End::Lingered { .. } | End::Sent | End::Stopped => Ok(Ok(())),
        }
    }

    /// Waits before the next attempt; returns how to end where that is due first.
    fn wait(&self, delay: Duration) -> Option<Result<(), Failure>> {
        let until = Instant::now() + delay;
        let until = self.deadline.map_or(until, |deadline| deadline.min(until));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.is_late().then(|| self.timed_out());
            }
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            let mut output = [PollFd::new(self.output.as_fd(), PollFlags::empty())];
            // An interrupted wait is resumed; nothing else can go wrong.
            if poll(&mut output, timeout).unwrap_or(0) > 0 {
                return Some(Ok(()));
            }
        }
    }

    /// Nobody is there to say goodbye to: signals end the program again.
    fn release(&self) {
        if let Some(signals) = &self.signals {
            signals.release();
        }
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    fn timed_out(&self) -> Result<(), Failure> {
        match self.options.count {
            None if self.admitted => Ok(()),
            None => Err(Failure::new(Status::TimedOut, format!("{} could not be reached in time", self.address))),
            Some(count) => {
                let too_few = if count == 1 { "no upcall".into() } else { format!("fewer than {count} upcalls") };
                Err(Failure::new(Status::TimedOut, format!("{too_few} came within the time allowed")))
            }
        }
    }
}
