//! The loop: wait for events, read, write, one turn after the other.

use std::time::Duration;

use upcall_engine::Now;

use super::context::Context;
use super::listeners::{ListenerSocket, Listeners};
use super::log::{Logger, error, info, warning};
use super::origin::Origin;
use super::rooms::Rooms;
use super::service::drain;
use super::service::notify::{Figures, Notifier};
use super::service::{reload, summary};
use super::timers::Timers;
use super::tokens::EventToken;
use crate::config::Config;
use crate::exit::Status;
use crate::net::inherited::Inherited;
use crate::net::poller::{Interest, Poller, Readiness};
use crate::net::signals::{SignalPipes, SignalRequest};

/// The daemon: the rooms, the signals, the origin of the configuration, and the notifications to the service manager.
pub(super) struct Server {
    rooms: Rooms,
    signals: SignalPipes,
    notifier: Notifier,
    origin: Origin,
}

impl Server {
    /// A server that listens on the configured addresses. On an error, returns the logger, so that the caller can log
    /// the message and exit with the status.
    pub(super) fn new(
        origin: Origin,
        config: Config,
        logger: Logger,
        signals: SignalPipes,
        notifier: Notifier,
        inherited: Vec<Inherited>,
    ) -> Result<Server, (Logger, String, Status)> {
        let made = Poller::new().and_then(|poller| Ok((poller, Timers::new()?)));
        let (poller, timers) = match made {
            Ok(made) => made,
            Err(error) => return Err((logger, format!("cannot watch sockets: {error}"), Status::CannotCreate)),
        };
        let rooms = Rooms::new(Context::new(config, logger, poller, timers), Listeners::new(inherited));
        let mut server = Server { rooms, signals, notifier, origin };
        match server.open() {
            Ok(()) => Ok(server),
            Err((message, status)) => {
                server.notifier.failed(&message);
                Err((server.rooms.context.logger, message, status))
            }
        }
    }

    fn open(&mut self) -> Result<(), (String, Status)> {
        let Rooms { context, listeners, .. } = &mut self.rooms;
        for source in self.signals.sources() {
            let added = context.poller.add(source, EventToken::Signals.encode(), Interest::Read);
            added.map_err(|error| (format!("cannot watch for signals: {error}"), Status::CannotCreate))?;
        }
        let added = context.timers.watch(&context.poller);
        added.map_err(|error| (format!("cannot watch the clock: {error}"), Status::CannotCreate))?;
        let mismatches = listeners.mismatches(&context.config.listeners);
        if !mismatches.is_empty() {
            return Err((mismatches.join("; "), Status::Configuration));
        }
        for rules in context.config.listeners.clone() {
            let number = listeners.new_number();
            let opened = listeners.open(&context.poller, number, &rules);
            let socket = opened.map_err(|message| (message, Status::CannotCreate))?;
            listeners.adopt(&mut context.logger, number, socket, rules);
        }
        listeners.warn_of_credentials(&mut context.logger);
        info!(context.logger, "ready");
        self.notifier.ready(context.clock.now().time);
        Ok(())
    }

    /// Runs until a drain is over.
    pub(super) fn run(&mut self) -> Status {
        let mut events = Vec::new();
        let mut now = self.rooms.context.clock.now();
        loop {
            let timeout = self.timeout(now);
            match self.rooms.context.poller.wait(timeout) {
                Ok(happened) => events.extend(happened),
                Err(error) => {
                    error!(self.rooms.context.logger, "cannot wait for events: {error}");
                    return Status::Io;
                }
            }
            now = self.rooms.context.clock.now();
            for readiness in events.drain(..) {
                self.dispatch(now, readiness);
            }
            self.turn(now);
            self.notify(now);
            if drain::finish(&mut self.rooms, now) {
                info!(self.rooms.context.logger, "ended");
                return Status::Ok;
            }
        }
    }

    /// Records which sockets are ready. Reads and writes happen in the turn that follows.
    fn dispatch(&mut self, now: Now, readiness: Readiness) {
        let Readiness { token, readable, hangup, writable } = readiness;
        let Rooms { context, listeners, streams, datagrams, .. } = &mut self.rooms;
        match EventToken::decode(token) {
            EventToken::Connection(key) => {
                if writable {
                    streams.writable(&mut context.engine, key);
                }
                if readable {
                    streams.mark_readable(key, hangup);
                }
            }
            EventToken::Listener(number) => {
                if writable {
                    listeners.writable(context, number);
                }
                listeners.mark_pending(number);
            }
            EventToken::Peer(key) => datagrams.peer_writable(context, now, key),
            EventToken::Alarm => context.timers.alarm_went_off(),
            EventToken::LeaseAlarm => context.timers.lease_alarm_went_off(),
            EventToken::Signals => self.handle_signals(),
        }
    }

    fn handle_signals(&mut self) {
        for request in self.signals.take() {
            match request {
                SignalRequest::End => drain::begin(&mut self.rooms, &mut self.notifier),
                SignalRequest::Reload => reload::reload(&mut self.rooms, &mut self.notifier, &self.origin),
                SignalRequest::Summary => summary::log(&mut self.rooms),
            }
        }
    }

    /// Runs one turn: all reads come before any write.
    fn turn(&mut self, now: Now) {
        let Rooms { context, listeners, streams, datagrams, .. } = &mut self.rooms;
        streams.accept(context, listeners, now);
        streams.receive(context, listeners, now);
        datagrams.receive_held(context, listeners, now);
        datagrams.receive(context, listeners, now);
        if context.timers.is_due(now, &context.engine) {
            context.engine.expire(now);
            self.expire(now);
        }
        // The end of a turn may make endpoints leave, whose farewells must then be written.
        loop {
            self.rooms.flush(now);
            self.rooms.context.engine.end_turn(now);
            self.rooms.handle_events(now);
            if !self.rooms.context.engine.has_ready() {
                break;
            }
        }
        let Context { timers, engine, logger, .. } = &mut self.rooms.context;
        if let Err(error) = timers.set_lease_alarm(engine) {
            warning!(logger, "cannot set the clock for the leases: {error}");
        }
    }

    /// Handles all deadlines that are due, except the engine's own.
    fn expire(&mut self, now: Now) {
        let Rooms { context, listeners, streams, datagrams, .. } = &mut self.rooms;
        while context.timers.no_descriptors.pop(now.time).is_some() {}
        context.timers.retry_writes(now.time, &mut context.engine);
        while let Some(number) = context.timers.listener_no_memory.pop(now.time) {
            listeners.mark_pending(number);
        }
        datagrams.check_own_sockets(context, now);
        streams.end_lingering(context, now);
        streams.check_liveness(context, now);
        streams.clear_waiting_room(context, listeners, now);
    }

    /// The longest time to wait for events after a turn that began at `now`; `None` if there is no limit. A deadline
    /// needs no limit, because it sets an alarm, which is an event.
    fn timeout(&mut self, now: Now) -> Option<Duration> {
        let Rooms { context, listeners, streams, datagrams, .. } = &mut self.rooms;
        let [liveness, waiting_room] = streams.deadlines();
        let drain = context.drain.as_ref().map(|drain| drain.deadline);
        let others = [context.engine.deadline(), liveness, waiting_room, self.notifier.deadline(), drain];
        context.timers.update(others);
        let may_accept = context.timers.no_descriptors.next().is_none();
        let have_pending = listeners.iter().any(|(number, listener)| match listener.socket {
            ListenerSocket::Streams(_) => listener.pending && may_accept,
            ListenerSocket::Datagrams(_) => listener.pending && datagrams.may_receive(context, number),
        });
        if have_pending || streams.have_pending_reads(&context.engine) || datagrams.have_pending_inputs(context) {
            return Some(Duration::ZERO);
        }
        context.timers.arm(now.time)
    }

    /// Sends the notifications that are due to the service manager.
    fn notify(&mut self, now: Now) {
        if self.notifier.is_connected() {
            let engine = &self.rooms.context.engine;
            let counters = engine.counters();
            let figures = Figures { endpoints: engine.len(), inputs: counters.inputs, upcalls: counters.upcalls };
            self.notifier.turn(now.time, figures, || engine.behind());
        }
    }
}
