//! What `listen` and `exec` have in common: an endpoint that only receives, told what happens to its connection, and ended
//! by signals with a goodbye.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::poll::PollFlags;

use super::losses::{BACKOFF_CAP, Losses};
use super::{PARTING, builder, wait};
use crate::cli::{Again, Credentials};
use crate::commands::failure::{Failure, say};
use crate::commands::signals::Signals;
use crate::exit::Status;
use upcall_client::backoff::Backoff;
use upcall_client::socket::stream::CONNECT_TIMEOUT;
use upcall_client::{Client, Error, Gap, Item, Role, Upcall};
use upcall_wire::address::Address;

const BACKOFF_BASE: Duration = Duration::from_millis(500);

/// What to hear of, and for how long to try.
pub(super) struct Wish<'a> {
    pub(super) address: &'a Address,
    pub(super) credentials: &'a Credentials,
    pub(super) topics: &'a [String],
    pub(super) since: Option<u64>,
    pub(super) again: Again,
    pub(super) deadline: Option<Instant>,
    /// Its reader being gone ends the wait.
    pub(super) output: Option<BorrowedFd<'a>>,
    pub(super) signals: &'a Signals,
    pub(super) losses: Losses,
}

impl Wish<'_> {
    /// Connects, again and again where that is wanted; none where the reader of our output went meanwhile.
    pub(super) fn connect(&mut self) -> Result<Option<Client>, Failure> {
        let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_CAP);
        let mut random = Rng::new();
        loop {
            let left = self.deadline.map_or(CONNECT_TIMEOUT, |by| by.saturating_duration_since(Instant::now()));
            let error = match self.attempt(left.min(CONNECT_TIMEOUT)) {
                Ok(client) => {
                    self.losses.over();
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
            self.losses.lost(&failure);
            let until = Instant::now() + delay;
            let until = self.deadline.map_or(until, |by| by.min(until));
            // Nobody is there to say goodbye to.
            self.signals.release();
            let [gone] = wait([self.output.map(|fd| (fd, PollFlags::empty()))], Some(until));
            if gone {
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
        // Over datagrams we may be registered before we know: whoever ends us then ends that, too.
        match self.address.transport().is_datagram() {
            true => self.signals.hold(),
            false => self.signals.release(),
        }
        while !client.register()? {
            let waits = [client.as_fd(), self.signals.as_fd()].map(|fd| Some((fd, PollFlags::POLLIN)));
            let [_, stop] = wait(waits, None);
            if stop {
                part(client, Some(self.signals));
                return Err(Error::Closed);
            }
        }
        Ok(client)
    }

    /// Sorts what has come: tells what a person wants to know on stderr, returns the rest.
    pub(super) fn sort(&mut self, item: Item) -> Option<Result<Upcall, Gap>> {
        match item {
            Item::Upcall(upcall) => return Some(Ok(upcall)),
            Item::Gap(gap) => {
                say(&super::show::complaint(&gap));
                return Some(Err(gap));
            }
            Item::Disconnected { error, .. } => self.losses.lost(&error),
            Item::Reconnected { resumed, new_log, .. } => {
                self.losses.over();
                let more = match (resumed, new_log) {
                    (true, _) => "",
                    (_, true) => "; the daemon has been restarted, and what was said meanwhile is not known",
                    (_, false) => "; the session could not be resumed",
                };
                say(&format!("connected to {} again{more}", self.address));
            }
            Item::DaemonError(error) => say(&error),
            Item::ForeignSender(foreign) => say(&foreign),
            _ => {}
        }
        None
    }
}

/// Says goodbye where somebody is there to hear it, and does what the signal, if one has come, would have done.
pub(super) fn part(client: Client, signals: Option<&Signals>) {
    if client.is_connected() {
        // The lease, or the time that sessions are kept, ends it otherwise.
        let _ = client.close(PARTING);
    }
    if let Some(signals) = signals {
        signals.release();
    }
}

/// Catches the signals that end the program.
pub(super) fn signals() -> Result<Signals, Failure> {
    Signals::catch().map_err(|error| Failure::new(Status::Io, format!("cannot catch signals: {error}")))
}

/// While there is nobody to say goodbye to, signals end the program at once.
pub(super) fn follow(signals: &Signals, client: &Client) {
    if client.is_connected() { signals.hold() } else { signals.release() }
}
