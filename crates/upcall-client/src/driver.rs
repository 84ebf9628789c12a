//! Drives the protocol over sockets: waits, moves bytes, makes a lost connection again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::socket::Socket;
use super::wakeup::Wakeup;
use super::{Error, Foreign};
use crate::backoff::Backoff;
use crate::machine::{Cause, Event, Machine, Settings};
use upcall_wire::address::Address;

/// A registration that stood this long was a success; a shorter one does not shorten the wait for the next.
const LASTING: Duration = Duration::from_secs(5);

/// How long, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    pub(super) reconnect: Option<(Duration, Duration)>,
    pub(super) insist: bool,
}

/// What a driver tells of.
#[derive(Debug)]
pub(super) enum News {
    Event(Event),
    Foreign(Foreign),
    Disconnected { error: Error, retry_in: Duration },
    Over(Error),
}

#[derive(Debug)]
pub(super) struct Driver {
    address: Address,
    place: String,
    pub(super) machine: Machine,
    pub(super) policy: Policy,
    socket: Option<Socket>,
    wakeup: Wakeup,
    /// The socket has more than was read.
    more: bool,
    backoff: Backoff,
    random: Rng,
    /// When to connect again.
    retry_at: Option<Instant>,
    /// Until when to be registered.
    welcome_by: Option<Instant>,
    welcomed_at: Option<Instant>,
    was_welcomed: bool,
    begun: Instant,
    over: bool,
    /// What happened outside the machine.
    failed: Option<Error>,
}

impl Driver {
    pub(super) fn new(address: Address, settings: Settings, policy: Policy) -> Result<Driver, Error> {
        let (base, cap) = policy.reconnect.unwrap_or((Duration::from_millis(100), Duration::from_secs(5)));
        let mut random = Rng::new();
        let wakeup = Wakeup::new().map_err(|error| Error::Broken(format!("cannot wait for events: {error}")))?;
        Ok(Driver {
            place: address.to_string(),
            address,
            machine: Machine::new(settings, random.u64(..)),
            policy,
            socket: None,
            wakeup,
            more: false,
            backoff: Backoff::new(base, cap),
            random,
            retry_at: Some(Instant::now()),
            welcome_by: None,
            welcomed_at: None,
            was_welcomed: false,
            begun: Instant::now(),
            over: false,
            failed: None,
        })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Waits until there may be something to do, or `until`; then does it.
    pub(super) fn turn(&mut self, until: Option<Instant>) {
        if let Err(error) = self.wakeup.set(self.due()).and_then(|()| self.wakeup.wait(until)) {
            self.failed = Some(Error::Broken(format!("cannot wait for events: {error}")));
            return;
        }
        self.work();
    }

    /// Waits until there may be something to do.
    pub(super) fn wait(&mut self) {
        if let Err(error) = self.wakeup.set(self.due()).and_then(|()| self.wakeup.wait(None)) {
            self.failed = Some(Error::Broken(format!("cannot wait for events: {error}")));
        }
    }

    /// Does what can be done without waiting, but for connecting.
    pub(super) fn work(&mut self) {
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.connect();
        }
        if self.socket.is_some()
            && let Err(error) = self.exchange()
        {
            self.lose(Some(Error::Broken(format!("the connection to {} broke: {error}", self.place))));
        }
        if self.welcome_by.is_some_and(|by| by <= Instant::now()) {
            let message = format!("{} has not let us in within the time allowed", self.place);
            self.lose(Some(Error::TimedOut(message)));
        }
    }

    fn exchange(&mut self) -> io::Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        // What comes is looked at first: what is sent over a connection that has ended would have an unknown fate.
        self.more = match socket.receive(&mut self.machine) {
            Ok(more) => more,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.lose(None);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.machine.expire(Instant::now());
        socket.send(&mut self.machine)?;
        self.wakeup.want_room(socket, socket.wants_room())?;
        Ok(())
    }

    fn connect(&mut self) {
        let now = Instant::now();
        let by = now + self.policy.connect_timeout;
        match Socket::open(&self.address, self.policy.connect_timeout, &mut self.machine) {
            Ok(socket) => match self.wakeup.add(&socket) {
                Ok(()) => {
                    self.socket = Some(socket);
                    self.welcome_by = Some(by);
                }
                Err(error) => self.failed = Some(Error::Broken(format!("cannot wait for events: {error}"))),
            },
            Err(error) => self.failed = Some(error),
        }
    }

    /// The socket is gone. `error`: what is wrong, where the machine does not know better.
    fn lose(&mut self, error: Option<Error>) {
        self.socket = None;
        self.welcome_by = None;
        self.failed = error.or_else(|| self.failed.take());
        self.machine.disconnected();
    }

    fn due(&self) -> Option<Instant> {
        if self.more {
            return Some(Instant::now());
        }
        let paused = self.socket.as_ref().and_then(Socket::paused_until);
        let machine = self.machine.due().map(|due| paused.map_or(due, |paused| paused.max(due)));
        [machine, paused, self.retry_at, self.welcome_by].into_iter().flatten().min()
    }

    /// What has happened.
    pub(super) fn news(&mut self) -> Option<News> {
        match self.machine.event() {
            Some(Event::Down(cause)) => return Some(self.down(&cause)),
            Some(Event::Welcomed { resumed, new_log, start, next }) => {
                self.welcome_by = None;
                self.welcomed_at = Some(Instant::now());
                self.was_welcomed = true;
                return Some(News::Event(Event::Welcomed { resumed, new_log, start, next }));
            }
            Some(event) => return Some(News::Event(event)),
            None => {}
        }
        if let Some(foreign) = self.socket.as_mut().and_then(Socket::take_foreign) {
            return Some(News::Foreign(foreign));
        }
        // The machine did not know of the attempt.
        (self.socket.is_none() && !self.over).then(|| self.failed.take()).flatten().map(|error| self.retry(error))
    }

    fn down(&mut self, cause: &Cause) -> News {
        self.socket = None;
        self.more = false;
        self.welcome_by = None;
        let told = self.failed.take();
        let error = match (cause, told) {
            (Cause::Closed, Some(error)) => error,
            _ => Error::of(cause, &self.place),
        };
        if cause.is_final() || self.machine.is_over() {
            self.over = true;
            return News::Over(error);
        }
        self.retry(error)
    }

    fn retry(&mut self, error: Error) -> News {
        let again = match self.was_welcomed {
            true => self.policy.reconnect.is_some(),
            false => self.policy.insist && self.begun.elapsed() < self.policy.connect_timeout,
        };
        if !again || (!self.was_welcomed && error.is_final()) {
            self.over = true;
            return News::Over(error);
        }
        if self.welcomed_at.take().is_some_and(|at| at.elapsed() >= LASTING) {
            self.backoff.reset();
        }
        let retry_in = self.backoff.next(&mut self.random);
        self.retry_at = Some(Instant::now() + retry_in);
        News::Disconnected { error, retry_in }
    }

    /// Says goodbye without waiting for an answer, where a registration would outlive its socket.
    pub(super) fn leave_behind(&mut self) {
        if self.socket.is_some() && self.machine.is_ready() && self.address.transport().is_datagram() {
            self.machine.leave_now();
            self.work();
        }
    }

    /// Closes the socket; the session stays.
    pub(super) fn hang_up(&mut self) {
        self.socket = None;
        self.over = true;
    }

    /// Makes the descriptor ready at the right time.
    pub(super) fn arm(&mut self) {
        if self.wakeup.set(self.due()).is_err() {
            self.failed = Some(Error::Broken("cannot wait for events".into()));
        }
    }

    /// Makes the descriptor ready now.
    pub(super) fn wake(&mut self) {
        self.more = true;
        self.arm();
    }

    /// Whether there is a connection, registered or not.
    pub(super) fn is_connected(&self) -> bool {
        self.socket.is_some()
    }
}

impl AsFd for Driver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }
}
