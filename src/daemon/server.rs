//! The loop: what happened, what it means, what is to be written; one turn after the other.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use slotmap::SlotMap;

use super::datagrams;
use crate::config::{self, Config, When};
use crate::daemon::Origin;
use crate::daemon::datagrams::held::Deferred;
use crate::daemon::datagrams::native_out::Letter;
use crate::daemon::datagrams::peers::{PeerKey, Peers};
use crate::daemon::listeners::{Active, Socket};
use crate::daemon::log::{Log, error, info, warning};
use crate::daemon::service::drain::Drain;
use crate::daemon::service::notify::Notifier;
use crate::daemon::streams::connection::{Connection, ConnectionKey};
use crate::daemon::streams::waiting_room::Caller;
use crate::daemon::streams::write::Lingering;
use crate::daemon::timers::clock::Clock;
use crate::daemon::timers::deadlines::Deadlines;
use crate::exit::Status;
use crate::net::alarm::{Alarm, ClockId};
use crate::net::datagram::{Inbox, Outbox};
use crate::net::inherited::Inherited;
use crate::net::listener::Binding;
use crate::net::poller::{Interest, Poller, Readiness};
use crate::net::signals::{Request, Signals};
use upcall_engine::{EndpointId, Engine, Entropy, Gate, Intake, ListenerNumber, Now, Settings, Time};
use upcall_wire::address::{Address, Host};

/// Bytes read from a socket at a time.
const READ: usize = 64 * 1024;

/// How long an endpoint that is told to leave may take to read what is due to it.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

/// How long a connection that we have ended may take to end its own side, once it has acknowledged everything. Closed
/// earlier, what it still sends would be answered by a reset, which can cost it what it has not read yet.
const LINGER: Duration = Duration::from_secs(2);

/// When a write, or a read, is tried again that the kernel had no memory for.
const STARVED: Duration = Duration::from_millis(50);

/// When a Unix datagram is sent again that found no room in a socket which does not say when there is some.
const CROWDED: Duration = Duration::from_millis(5);

/// The same, for a peer that has not read for a while.
const STUCK: Duration = Duration::from_millis(100);

/// For how long a Unix peer whose queue was full must have had room before it shares a socket with the others again.
const RETURN: Duration = Duration::from_secs(1);

/// When accepting is tried again that found no file descriptor, if none of our own was closed meanwhile.
const EXHAUSTED: Duration = Duration::from_millis(500);

/// The tokens of the signals and of the alarms; listeners have their numbers, connections their keys.
const SIGNALS: u64 = u64::MAX;
const LEASES: u64 = u64::MAX - 1;
const ALARM: u64 = u64::MAX - 2;

pub(super) struct Server {
    pub(super) log: Log,
    pub(super) clock: Clock,
    pub(super) origin: Origin,
    pub(super) config: Config,
    pub(super) log_inputs: bool,
    pub(super) poller: Poller,
    pub(super) signals: Signals,
    pub(super) notifier: Notifier,
    /// Every socket that was handed over, whether a listener uses it or not.
    pub(super) inherited: Vec<Inherited>,
    pub(super) engine: Engine,
    pub(super) listeners: BTreeMap<ListenerNumber, Active>,
    pub(super) next_listener: ListenerNumber,
    /// Accepting is given up for now: there are no file descriptors. Said once, until it has gone well again.
    pub(super) pausing: bool,
    pub(super) exhausted: Deadlines<()>,
    pub(super) connections: SlotMap<ConnectionKey, Connection>,
    /// Connections that may have inputs.
    pub(super) readable: VecDeque<ConnectionKey>,
    /// Connections of which only the end is waited for.
    pub(super) discarding: VecDeque<ConnectionKey>,
    pub(super) peers: Peers,
    pub(super) gate: Gate,
    /// None while its datagrams are handled.
    pub(super) inbox: Option<Box<Inbox>>,
    pub(super) outbox: Outbox,
    /// Text datagrams that wait with everybody's inputs, though their socket has to be read.
    pub(super) deferred: Deferred,
    /// Native datagrams on their way out, and their bytes.
    pub(super) mail: (Vec<u8>, Vec<Letter>),
    /// The runs of one round: how many datagrams, and how large they are.
    pub(super) runs: Vec<(usize, usize)>,
    /// Goes off when the next lease may end, or before.
    leases: Alarm,
    /// The same for all other deadlines.
    alarm: Alarm,
    /// The first of the other deadlines, as of the end of the last turn: those that were set since are not due yet.
    next: Time,
    pub(super) lingering: Deadlines<Lingering>,
    pub(super) starved: Deadlines<EndpointId>,
    pub(super) crowded: Deadlines<EndpointId>,
    pub(super) stuck: Deadlines<EndpointId>,
    pub(super) returning: Deadlines<PeerKey>,
    pub(super) dry: Deadlines<ListenerNumber>,
    /// When connections over which something was sent are looked at next.
    pub(super) next_look: Option<Time>,
    pub(super) door: Deadlines<Caller>,
    pub(super) ready: Vec<EndpointId>,
    pub(super) buffer: Box<[u8]>,
    pub(super) drain: Option<Drain>,
}

pub(super) fn settings(config: &Config) -> Settings {
    Settings {
        format: config.upcall.format.clone(),
        audience: config.upcall.deliver_to,
        max_endpoints: config.registry.max_endpoints,
        lease: config.registry.lease,
        max_message: config.upcall.max_message,
        session_ttl: config.registry.session_ttl,
        message_timeout: config.upcall.message_timeout,
        max_behind: config.slow_consumer.max_behind as u64,
        patience: config.slow_consumer.patience,
        policy: config.slow_consumer.policy,
        farewell: FAREWELL,
    }
}

pub(super) fn logs_inputs(config: &Config) -> bool {
    match config.daemon.log_inputs {
        When::Auto => crate::daemon::log::is_terminal(),
        When::Always => true,
        When::Never => false,
    }
}

pub(super) fn binding(rules: &config::Listener) -> Binding {
    Binding { dual_stack: rules.dual_stack, mode: rules.mode, group: rules.group }
}

impl Server {
    /// A server that listens wherever the configuration says; the log comes back with the message where it cannot.
    pub(super) fn new(
        origin: Origin,
        config: Config,
        log: Log,
        signals: Signals,
        notifier: Notifier,
        inherited: Vec<Inherited>,
    ) -> Result<Server, (Log, String, Status)> {
        let clocks = [ClockId::CLOCK_BOOTTIME, ClockId::CLOCK_MONOTONIC];
        let [leases, alarm] = clocks.map(Alarm::new);
        let made = Poller::new().and_then(|poller| Ok((poller, leases?, alarm?)));
        let (poller, leases, alarm) = match made {
            Ok(made) => made,
            Err(error) => return Err((log, format!("cannot watch sockets: {error}"), Status::CannotCreate)),
        };
        let mut server = Server {
            log,
            clock: Clock::default(),
            origin,
            log_inputs: logs_inputs(&config),
            poller,
            signals,
            notifier,
            inherited,
            engine: Engine::new(settings(&config), config.log.size, Entropy::new(crate::daemon::random)),
            listeners: BTreeMap::new(),
            next_listener: 0,
            pausing: false,
            exhausted: Deadlines::new(EXHAUSTED),
            connections: SlotMap::with_key(),
            readable: VecDeque::new(),
            discarding: VecDeque::new(),
            peers: Peers::default(),
            gate: Gate::new(),
            inbox: Some(datagrams::inbox(&config)),
            outbox: Outbox::new(),
            deferred: Deferred::default(),
            mail: (Vec::new(), Vec::new()),
            runs: Vec::new(),
            leases,
            alarm,
            next: Time(0),
            lingering: Deadlines::new(LINGER),
            starved: Deadlines::new(STARVED),
            crowded: Deadlines::new(CROWDED),
            stuck: Deadlines::new(STUCK),
            returning: Deadlines::new(RETURN),
            dry: Deadlines::new(STARVED),
            next_look: None,
            door: Deadlines::new(crate::daemon::streams::waiting_room::PATIENCE),
            ready: Vec::new(),
            buffer: vec![0; READ].into_boxed_slice(),
            drain: None,
            config,
        };
        match server.open() {
            Ok(()) => Ok(server),
            Err((message, status)) => {
                server.notifier.failed(&message);
                Err((server.log, message, status))
            }
        }
    }

    fn open(&mut self) -> Result<(), (String, Status)> {
        for source in self.signals.sources() {
            let added = self.poller.add(source, SIGNALS, Interest::Read);
            added.map_err(|error| (format!("cannot watch for signals: {error}"), Status::CannotCreate))?;
        }
        let added = self.poller.add(&self.leases, LEASES, Interest::Read);
        let added = added.and_then(|()| self.poller.add(&self.alarm, ALARM, Interest::Read));
        added.map_err(|error| (format!("cannot watch the clock: {error}"), Status::CannotCreate))?;
        let misfits = crate::daemon::listeners::activation::misfits(&self.inherited, &self.config.listeners);
        if !misfits.is_empty() {
            return Err((misfits.join("; "), Status::Configuration));
        }
        for rules in self.config.listeners.clone() {
            let number = self.new_number();
            let bound = self.bind(&rules).and_then(|socket| self.watch(number, &socket).map(|()| socket));
            self.adopt(number, bound.map_err(|message| (message, Status::CannotCreate))?, rules);
        }
        self.warn_of_credentials();
        info!(self.log, "ready");
        self.notifier.ready(self.clock.now().time);
        Ok(())
    }

    /// A number that no listener has had.
    pub(super) fn new_number(&mut self) -> ListenerNumber {
        self.next_listener += 1;
        self.next_listener
    }

    /// Watches the socket of a listener that is to be [adopted](Server::adopt) in the same turn, or closed.
    pub(super) fn watch(&self, number: ListenerNumber, socket: &Socket) -> Result<(), String> {
        let added = self.poller.add(socket, number.into(), Interest::Read);
        added.map_err(|error| format!("cannot watch {}: {error}", socket.address()))
    }

    /// Serves a listener that is watched under this number.
    pub(super) fn adopt(&mut self, number: ListenerNumber, socket: Socket, rules: config::Listener) {
        let kind = match socket.address() {
            Address::Inet { host: Host::Ip(ip), .. } if ip.is_ipv6() && ip.is_unspecified() => {
                if rules.dual_stack {
                    ", IPv6 and IPv4"
                } else {
                    ", IPv6 only"
                }
            }
            _ => "",
        };
        let handed_over = match self.holder(|address| address == socket.address()) {
            Some(_) => ", handed over",
            None => "",
        };
        info!(self.log, listener = rules.name; "listening on {} ({}{kind}{handed_over})", socket.address(), rules.name);
        self.listeners.insert(number, Active::new(socket, rules));
    }

    /// Works until it is told to end.
    pub(super) fn run(&mut self) -> Status {
        let mut events = Vec::new();
        let mut now = self.clock.now();
        loop {
            let timeout = self.timeout(now);
            match self.poller.wait(timeout) {
                Ok(happened) => events.extend(happened),
                Err(error) => {
                    error!(self.log, "cannot wait for events: {error}");
                    return Status::Io;
                }
            }
            now = self.clock.now();
            for readiness in events.drain(..) {
                self.happened(now, readiness);
            }
            self.turn(now);
            self.notify(now);
            if self.is_over(now) {
                info!(self.log, "ended");
                return Status::Ok;
            }
        }
    }

    fn happened(&mut self, now: Now, readiness: Readiness) {
        let Readiness { token, readable, hangup, writable } = readiness;
        if token == SIGNALS {
            for request in self.signals.take() {
                match request {
                    Request::End => self.end(),
                    Request::Reload => self.reload(),
                    Request::Summary => self.summary(),
                }
            }
        } else if token == LEASES {
            self.leases.went_off();
        } else if token == ALARM {
            self.alarm.went_off();
        } else if let Some(peer) = PeerKey::from_token(token) {
            self.peer_is_writable(now, peer);
        } else if let Ok(number) = ListenerNumber::try_from(token) {
            if writable {
                self.port_is_writable(number);
            }
            if let Some(active) = self.listeners.get_mut(&number) {
                active.waiting = true;
            }
        } else {
            let key = ConnectionKey::from_token(token);
            if writable && let Some(endpoint) = self.connections.get(key).and_then(|connection| connection.endpoint) {
                self.engine.writable(endpoint);
            }
            if readable {
                self.mark_readable(key, hangup);
            }
        }
    }

    /// One turn: all reads before any write.
    fn turn(&mut self, now: Now) {
        self.accept(now);
        self.receive(now);
        self.receive_deferred(now);
        self.receive_datagrams(now);
        if self.next <= now.time || self.engine.lease_deadline().is_some_and(|deadline| deadline <= now.boot) {
            self.engine.expire(now);
            self.look_after(now);
        }
        // The end of a turn may tell endpoints to leave, who then have a farewell to be written.
        loop {
            self.flush(now);
            self.engine.end_turn(now);
            self.see_off(now);
            if !self.engine.has_ready() {
                break;
            }
        }
        if let Some(deadline) = self.engine.lease_deadline()
            && let Err(error) = self.leases.set(deadline.0)
        {
            warning!(self.log, "cannot set the clock for the leases: {error}");
        }
    }

    /// Deadlines other than the engine's own.
    fn look_after(&mut self, now: Now) {
        while self.exhausted.pop(now.time).is_some() {}
        for again in [&mut self.starved, &mut self.crowded, &mut self.stuck] {
            while let Some(endpoint) = again.pop(now.time) {
                self.engine.writable(endpoint);
            }
        }
        while let Some(number) = self.dry.pop(now.time) {
            if let Some(active) = self.listeners.get_mut(&number) {
                active.waiting = true;
            }
        }
        while let Some(peer) = self.returning.pop(now.time) {
            self.may_return(now, peer);
        }
        while let Some(lingering) = self.lingering.pop(now.time) {
            self.stop_lingering(now, lingering);
        }
        self.check_liveness(now);
        self.clear_door(now);
    }

    /// How long nothing has to be done unless something happens, after a turn that began at `now`. That a deadline comes is
    /// something that happens: the alarm goes off.
    fn timeout(&mut self, now: Now) -> Option<Duration> {
        self.next = self.next_deadline();
        let inputs = match self.engine.intake() {
            Intake::Open | Intake::Full => !self.readable.is_empty(),
            Intake::Only(endpoint) => {
                let connection = self.connection_of(endpoint);
                connection.is_some_and(|connection| connection.readable && !connection.discard)
                    && !self.engine.is_parked(endpoint)
            }
            Intake::Held => false,
        };
        let open = self.engine.intake() == Intake::Open && self.drain.is_none();
        let waiting = self.listeners.iter().any(|(number, active)| match active.socket {
            Socket::Streams(_) => active.waiting && self.exhausted.next().is_none(),
            Socket::Datagrams(_) => active.waiting && self.may_receive_datagrams(*number),
        }) || (open && !self.deferred.is_empty());
        if inputs || waiting || !self.discarding.is_empty() {
            return Some(Duration::ZERO);
        }
        // The end of time sets none.
        let is_alarmed = self.alarm.set(self.next.0).is_ok();
        (!is_alarmed).then(|| self.next.since(Clock::about(now.time)))
    }

    /// The first of all deadlines but those of the leases; the end of time where there is none.
    fn next_deadline(&self) -> Time {
        let deadlines = [
            self.engine.deadline(),
            self.exhausted.next(),
            self.lingering.next(),
            self.starved.next(),
            self.crowded.next(),
            self.stuck.next(),
            self.returning.next(),
            self.dry.next(),
            self.next_look,
            self.door.next(),
            self.notifier.deadline(),
            self.drain.as_ref().map(|drain| drain.deadline),
        ];
        // Without branches: most are never set.
        let never = Time(u64::MAX);
        deadlines.into_iter().fold(never, |next, deadline| next.min(deadline.unwrap_or(never)))
    }

    /// The connection of an endpoint.
    pub(super) fn connection_of(&self, endpoint: EndpointId) -> Option<&Connection> {
        self.connections.get(self.key_of(endpoint)?)
    }

    /// The key of the connection of an endpoint; none for a datagram peer, whose tag is a key of another kind.
    pub(super) fn key_of(&self, endpoint: EndpointId) -> Option<ConnectionKey> {
        let endpoint = self.engine.endpoint(endpoint).filter(|endpoint| !endpoint.transport.is_datagram())?;
        Some(ConnectionKey::from_token(endpoint.tag))
    }

    /// Throws away what the connection of an endpoint still sends.
    pub(super) fn discard_inputs(&mut self, endpoint: EndpointId) {
        let Some(key) = self.key_of(endpoint) else { return };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.discard = true;
            self.mark_readable(key, false);
        }
    }
}
