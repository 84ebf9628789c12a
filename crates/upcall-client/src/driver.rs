//! Drives the machine over sockets: connects and reconnects, waits, and moves bytes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use fastrand::Rng;
use upcall_wire::address::Address;

use super::Error;
use super::wakeup::Wakeup;
use crate::backoff::Backoff;
use crate::machine::{DisconnectReason, Event, Machine, Settings};
use crate::socket::DaemonSocket;
use crate::socket::owner::ForeignSender;

/// A registration that lasts this long resets the delays between attempts.
const LASTING: Duration = Duration::from_secs(5);

/// Time limits, and when to reconnect.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionPolicy {
    /// The limit for connecting and registering.
    pub(super) connect_timeout: Duration,
    /// The limit for calls that wait for an answer.
    pub(super) call_timeout: Duration,
    /// The base and the cap of the delays between attempts; `None` not to reconnect.
    pub(super) reconnect: Option<(Duration, Duration)>,
    /// Whether to retry the first connection, too.
    pub(super) retry_first: bool,
}

/// What a driver reports.
#[derive(Debug)]
pub(super) enum DriverEvent {
    /// An event of the machine, but never [`Event::Disconnected`].
    Machine(Event),
    ForeignSender(ForeignSender),
    /// The connection is lost, or an attempt failed. Another attempt follows.
    Disconnected {
        error: Error,
        retry_in: Duration,
    },
    /// Nothing follows.
    Ended(Error),
}

#[allow(clippy::large_enum_variant, reason = "a client has one of it")]
enum Connection {
    /// There is no socket until the next attempt.
    Waiting { retry_at: Instant },
    /// The socket is closed, which is not reported yet. This error is reported unless the machine has a more specific
    /// one.
    Lost(Option<Error>),
    /// There is a socket. `register_by` is the deadline of the registration while it is not complete.
    Open { socket: DaemonSocket, register_by: Option<Instant> },
    /// There is no socket, and there will never be one again.
    Ended,
}

pub(super) struct Driver {
    address: Address,
    /// The address as text, for messages.
    place: String,
    pub(super) machine: Machine,
    pub(super) policy: ConnectionPolicy,
    connection: Connection,
    wakeup: Wakeup,
    /// Whether there is work to do immediately, because not everything was read, or because the caller requested it.
    work_pending: bool,
    backoff: Backoff,
    random: Rng,
    begun: Instant,
    /// Whether there ever was a registration.
    was_registered: bool,
    /// When the latest registration was completed, until its end is reported.
    registered_at: Option<Instant>,
}

impl Driver {
    pub(super) fn new(address: Address, settings: Settings, policy: ConnectionPolicy) -> Result<Driver, Error> {
        let (base, cap) = policy.reconnect.unwrap_or((Duration::from_millis(100), Duration::from_secs(5)));
        let mut random = Rng::new();
        let begun = Instant::now();
        Ok(Driver {
            place: address.to_string(),
            address,
            machine: Machine::new(settings, random.u64(..)),
            policy,
            connection: Connection::Waiting { retry_at: begun },
            wakeup: Wakeup::new().map_err(cannot_wait)?,
            work_pending: false,
            backoff: Backoff::new(base, cap),
            random,
            begun,
            was_registered: false,
            registered_at: None,
        })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Waits until there may be work, or until `until`, and does the work.
    pub(super) fn turn(&mut self, until: Option<Instant>) {
        self.wait(until);
        self.work();
    }

    /// Waits until there may be work, or until `until`.
    pub(super) fn wait(&mut self, until: Option<Instant>) {
        if let Err(error) = self.wakeup.set(self.due()).and_then(|()| self.wakeup.wait(until)) {
            self.lose(Some(cannot_wait(error)));
        }
    }

    /// Makes the descriptor readable when the next work is due.
    pub(super) fn arm(&mut self) {
        if let Err(error) = self.wakeup.set(self.due()) {
            self.lose(Some(cannot_wait(error)));
        }
    }

    /// Makes the descriptor readable now, until work is done the next time.
    pub(super) fn wake(&mut self) {
        self.work_pending = true;
        self.arm();
    }

    /// Does all work that is due. Blocks only while it connects.
    pub(super) fn work(&mut self) {
        self.work_pending = false;
        if matches!(self.connection, Connection::Waiting { retry_at } if retry_at <= Instant::now()) {
            self.connect();
        }
        if let Err(error) = self.exchange() {
            self.lose(Some(Error::Broken(format!("the connection to {} broke: {error}", self.place))));
        }
        let now = Instant::now();
        if matches!(self.connection, Connection::Open { register_by: Some(by), .. } if by <= now) {
            let message = format!("{} did not complete the registration within the time allowed", self.place);
            self.lose(Some(Error::TimedOut(message)));
        }
    }

    fn exchange(&mut self) -> io::Result<()> {
        let Connection::Open { socket, .. } = &mut self.connection else { return Ok(()) };
        // Receive first. If the connection has ended, nothing more must be sent over it: there would be no way to find
        // out whether the daemon accepted it.
        self.work_pending = match socket.receive(&mut self.machine) {
            Ok(is_more) => is_more,
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
        let register_by = Some(Instant::now() + self.policy.connect_timeout);
        match DaemonSocket::open(&self.address, self.policy.connect_timeout, &mut self.machine) {
            Ok(socket) => match self.wakeup.add(&socket) {
                Ok(()) => self.connection = Connection::Open { socket, register_by },
                Err(error) => self.lose(Some(cannot_wait(error))),
            },
            Err(error) => self.lose(Some(error)),
        }
    }

    /// Closes the socket, if there is one, and informs the machine. `error` is the reason, if it is known here.
    fn lose(&mut self, error: Option<Error>) {
        if !matches!(self.connection, Connection::Ended) {
            self.connection = Connection::Lost(error);
            self.machine.disconnected();
        }
    }

    /// When the next work is due, if nothing arrives before.
    fn due(&self) -> Option<Instant> {
        if self.work_pending {
            return Some(Instant::now());
        }
        match &self.connection {
            Connection::Waiting { retry_at } => Some(*retry_at),
            Connection::Open { socket, register_by } => {
                let paused = socket.paused_until();
                let machine = self.machine.due().map(|due| paused.map_or(due, |paused| paused.max(due)));
                [machine, paused, *register_by].into_iter().flatten().min()
            }
            Connection::Lost(_) | Connection::Ended => None,
        }
    }

    /// Takes the next event.
    pub(super) fn event(&mut self) -> Option<DriverEvent> {
        match self.machine.event() {
            Some(Event::Disconnected(reason)) => return Some(self.disconnected(&reason)),
            Some(event) => {
                if matches!(event, Event::Welcomed { .. }) {
                    self.registered();
                }
                return Some(DriverEvent::Machine(event));
            }
            None => {}
        }
        match &mut self.connection {
            Connection::Open { socket, .. } => socket.take_foreign().map(DriverEvent::ForeignSender),
            // The machine was not informed of the attempt.
            Connection::Lost(error) => error.take().map(|error| self.retry(error)),
            Connection::Waiting { .. } | Connection::Ended => None,
        }
    }

    fn registered(&mut self) {
        if let Connection::Open { register_by, .. } = &mut self.connection {
            *register_by = None;
        }
        self.was_registered = true;
        self.registered_at = Some(Instant::now());
    }

    fn disconnected(&mut self, reason: &DisconnectReason) -> DriverEvent {
        self.work_pending = false;
        let known = match std::mem::replace(&mut self.connection, Connection::Lost(None)) {
            Connection::Lost(error) => error,
            _ => None,
        };
        let error = match (reason, known) {
            (DisconnectReason::Closed, Some(error)) => error,
            _ => Error::from_disconnect(reason, &self.place),
        };
        if reason.is_final() || self.machine.is_over() {
            self.connection = Connection::Ended;
            return DriverEvent::Ended(error);
        }
        self.retry(error)
    }

    fn retry(&mut self, error: Error) -> DriverEvent {
        let may_retry = match self.was_registered {
            true => self.policy.reconnect.is_some(),
            false => self.policy.retry_first && !error.is_final() && self.begun.elapsed() < self.policy.connect_timeout,
        };
        if !may_retry {
            self.connection = Connection::Ended;
            return DriverEvent::Ended(error);
        }
        if self.registered_at.take().is_some_and(|at| at.elapsed() >= LASTING) {
            self.backoff.reset();
        }
        let retry_in = self.backoff.next(&mut self.random);
        self.connection = Connection::Waiting { retry_at: Instant::now() + retry_in };
        DriverEvent::Disconnected { error, retry_in }
    }

    /// Over datagrams, sends BYE without waiting for an answer, because the registration would outlive its socket.
    pub(super) fn leave_unconfirmed(&mut self) {
        let is_open = matches!(self.connection, Connection::Open { .. });
        if is_open && self.machine.is_ready() && self.address.transport().is_datagram() {
            self.machine.leave_now();
            self.work();
        }
    }

    /// Closes the socket without BYE, so that the session stays.
    pub(super) fn detach(&mut self) {
        self.connection = Connection::Ended;
    }

    /// Whether there is a connection, registered or not.
    pub(super) fn is_connected(&self) -> bool {
        matches!(self.connection, Connection::Open { .. })
    }
}

fn cannot_wait(error: impl std::fmt::Display) -> Error {
    Error::Broken(format!("cannot wait for events: {error}"))
}

impl AsFd for Driver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }
}
