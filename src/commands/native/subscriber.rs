//! The common part of `listen` and `exec`: an endpoint that only receives, reports the state of its connection, and
//! leaves the daemon when a signal ends it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::poll::PollFlags;
use upcall_client::socket::stream::CONNECT_TIMEOUT;
use upcall_client::{Client, Error, Gap, Item, Role, Upcall};
use upcall_wire::address::Address;

use super::builder::{LEAVE_TIMEOUT, builder};
use super::render::gap_notice;
use crate::cli::{CredentialOptions, ReconnectOptions};
use crate::commands::failure::Failure;
use crate::commands::poll::wait;
use crate::commands::reconnect::{OutageReport, backoff};
use crate::commands::terminal::output::notice;
use crate::commands::terminal::signals::CaughtSignals;
use crate::exit::Status;

/// What to subscribe to, and how to connect.
pub(super) struct Subscriber<'a> {
    pub(super) address: &'a Address,
    pub(super) credentials: &'a CredentialOptions,
    pub(super) topics: &'a [String],
    /// The sequence to start from, if older upcalls are wanted.
    pub(super) since: Option<u64>,
    pub(super) again: ReconnectOptions,
    /// When to stop trying to connect.
    pub(super) deadline: Option<Instant>,
    /// The output. If its reader is gone, no further attempt is made.
    pub(super) output: Option<BorrowedFd<'a>>,
    pub(super) signals: &'a CaughtSignals,
    pub(super) outage: OutageReport,
}

/// An upcall or a gap.
pub(super) enum UpcallOrGap {
    Upcall(Upcall),
    Gap(Gap),
}

impl Subscriber<'_> {
    /// Connects, and retries if the options ask for it. Returns `None` if the reader of the output is gone.
    pub(super) fn connect(&mut self) -> Result<Option<Client>, Failure> {
        let mut backoff = backoff();
        let mut random = Rng::new();
        loop {
            let left = self.deadline.map_or(CONNECT_TIMEOUT, |by| by.saturating_duration_since(Instant::now()));
            let error = match self.attempt(left.min(CONNECT_TIMEOUT)) {
                Ok(client) => {
                    self.outage.restored();
                    return Ok(Some(client));
                }
                Err(error) => error,
            };
            if self.deadline.is_some_and(|by| by <= Instant::now()) {
                let message = format!("{} could not be reached in time: {error}", self.address);
                return Err(Failure::new(Status::TimedOut, message));
            }
            let is_final = error.is_final();
            let failure = Failure::from(error);
            if !self.again.retry || is_final || failure.status() == Status::Denied {
                return Err(failure);
            }
            let delay = backoff.next(&mut random);
            self.outage.lost(&failure);
            let until = Instant::now() + delay;
            let until = self.deadline.map_or(until, |by| by.min(until));
            // Without a registration there is nothing to leave.
            self.signals.release();
            let [reader_gone] = wait([self.output.map(|fd| (fd, PollFlags::empty()))], Some(until));
            if reader_gone {
                return Ok(None);
            }
        }
    }

    fn attempt(&self, timeout: Duration) -> Result<Client, Error> {
        let mut builder = builder(self.address, self.credentials).role(Role::ReceiveOnly).connect_timeout(timeout);
        for topic in self.topics {
            builder = builder.filter(topic);
        }
        if let Some(since) = self.since {
            builder = builder.since(since);
        }
        if self.again.no_reconnect {
            builder = builder.no_reconnect();
        }
        let mut client = builder.start()?;
        // Over datagrams the daemon may have registered us before its answer arrives. A signal must then end the
        // registration too.
        match self.address.transport().is_datagram() {
            true => self.signals.hold(),
            false => self.signals.release(),
        }
        while !client.register()? {
            let waits = [client.as_fd(), self.signals.as_fd()].map(|fd| Some((fd, PollFlags::POLLIN)));
            let [_, stop] = wait(waits, None);
            if stop {
                leave(client, Some(self.signals));
                return Err(Error::Closed);
            }
        }
        Ok(client)
    }

    /// Handles an item: reports changes of the connection on stderr, and returns an upcall or a gap.
    pub(super) fn handle(&mut self, item: Item) -> Option<UpcallOrGap> {
        match item {
            Item::Upcall(upcall) => return Some(UpcallOrGap::Upcall(upcall)),
            Item::Gap(gap) => {
                notice(&gap_notice(&gap));
                return Some(UpcallOrGap::Gap(gap));
            }
            Item::Disconnected { error, .. } => self.outage.lost(&error),
            Item::Reconnected { resumed, new_log, .. } => {
                self.outage.restored();
                let more = match (resumed, new_log) {
                    (true, _) => "",
                    (_, true) => "; the daemon was restarted, so it is not known what was missed",
                    (_, false) => "; the session could not be resumed",
                };
                notice(&format!("connected to {} again{more}", self.address));
            }
            Item::DaemonError(error) => notice(&error),
            Item::ForeignSender(foreign) => notice(&foreign),
            _ => {}
        }
        None
    }
}

/// Leaves the daemon if there is a connection, and applies the default effect of a signal if one has arrived.
pub(super) fn leave(client: Client, signals: Option<&CaughtSignals>) {
    if client.is_connected() {
        // If this fails, the registration ends with its lease, or when the session expires.
        let _ = client.close(LEAVE_TIMEOUT);
    }
    if let Some(signals) = signals {
        signals.release();
    }
}

/// Holds signals back while there is a connection. Without one there is nothing to leave, and signals end the program
/// at once.
pub(super) fn hold_while_connected(signals: &CaughtSignals, client: &Client) {
    if client.is_connected() { signals.hold() } else { signals.release() }
}
