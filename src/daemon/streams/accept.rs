//! Connections come in: registered, or refused with a reason that reaches them.

use crate::config::{Level, Protocol, Role};
use crate::daemon::listeners::admission;
use crate::daemon::listeners::{Active, Socket};
use crate::daemon::log::Count;
use crate::daemon::log::{debug, info, log_at, warning};
use crate::daemon::server::Server;
use crate::daemon::streams::connection::{Connection, ConnectionKey};
use crate::daemon::streams::waiting_room::Caller;
use crate::net::listener::{Accepted, BACKLOG};
use crate::net::peer_groups;
use crate::net::poller::Interest;
use crate::net::stream::Stream;
use upcall_engine::{EndpointId, ExpectedProtocol, ListenerNumber, Now, Registration};
use upcall_wire::address::Peer;
use upcall_wire::reason::{Refusal, farewell};

/// Connections accepted in one turn from one listener: those who are there have to be served, too.
const PER_TURN: usize = 64;

/// Refused and departed connections whose end is waited for; above that they are closed at once.
pub(in crate::daemon) const MAX_LINGERING: usize = 256;

impl Server {
    /// Accepts from every listener where somebody may be waiting.
    pub(in crate::daemon) fn accept(&mut self, now: Now) {
        if self.exhausted.next().is_some() {
            return;
        }
        let is_waiting = |active: &Active| active.waiting && matches!(active.socket, Socket::Streams(_));
        let waiting = self.listeners.iter().filter(|(_, active)| is_waiting(active)).map(|(number, _)| *number);
        for number in waiting.collect::<Vec<_>>() {
            self.accept_from(now, number);
        }
    }

    /// Accepts everybody who is waiting, as far as file descriptors go.
    pub(in crate::daemon) fn accept_all(&mut self, now: Now, number: ListenerNumber) {
        for _ in 0..=BACKLOG / PER_TURN {
            if let Some(active) = self.listeners.get_mut(&number) {
                active.waiting = true;
            }
            self.accept_from(now, number);
            if !self.listeners.get(&number).is_some_and(|active| active.waiting) || self.exhausted.next().is_some() {
                return;
            }
        }
    }

    fn accept_from(&mut self, now: Now, number: ListenerNumber) {
        for _ in 0..PER_TURN {
            let Some(active) = self.listeners.get_mut(&number) else { return };
            let Socket::Streams(socket) = &active.socket else { return };
            match socket.accept() {
                Accepted::Stream(stream, peer) => self.admit(now, number, stream, peer),
                Accepted::Nobody => {
                    active.waiting = false;
                    if std::mem::take(&mut self.pausing) {
                        info!(self.log, "accepting goes on");
                    }
                    return;
                }
                Accepted::Gone(error) => {
                    debug!(self.log, listener = active.rules.name; "a connection to {} was gone already: {error}", active.rules.name)
                }
                Accepted::Exhausted(error) => {
                    if !std::mem::replace(&mut self.pausing, true) {
                        warning!(self.log, "accepting pauses with {}: {error}", Count(self.engine.len(), "endpoint"));
                    }
                    self.exhausted.add(now.time, ());
                    return;
                }
            }
        }
    }

    fn admit(&mut self, now: Now, number: ListenerNumber, stream: Stream, peer: Peer) {
        let Some(Active { rules, socket, .. }) = self.listeners.get(&number) else { return };
        let transport = socket.address().transport();
        let refusal = if self.drain.is_some() {
            Some(Refusal::Shutdown)
        } else if !admission::admits(rules, peer, || peer_groups(&stream).unwrap_or_default()) {
            Some(Refusal::NotAllowed)
        } else {
            None
        };
        let protocol = match rules.protocol {
            _ if rules.token.is_some() => ExpectedProtocol::Native,
            Protocol::Auto => ExpectedProtocol::Auto,
            Protocol::Text => ExpectedProtocol::Text,
            Protocol::Native => ExpectedProtocol::Native,
        };
        let receives = rules.role != Role::Input;
        let (max_per_listener, max_per_source) = (rules.max_endpoints, admission::max_per_source(rules, peer));
        let key = self.connections.insert(Connection::new(stream, number, rules.framing, protocol));
        if let Err(error) = self.poller.add(&self.connections[key].stream, key.token(), Interest::Read) {
            warning!(self.log, "cannot watch a connection from {peer}: {error}");
            self.connections.remove(key);
            return;
        }
        if let Some(refusal) = refusal {
            return self.refuse(now, key, peer, refusal);
        }
        let tag = key.token();
        let who = Registration {
            protocol,
            tag,
            listener: number,
            transport,
            peer,
            receives,
            max_per_listener,
            max_per_source,
        };
        match self.engine.register(now, who) {
            Ok(endpoint) => self.enter(key, endpoint),
            Err(refusal) if protocol == ExpectedProtocol::Text => self.refuse(now, key, peer, refusal),
            Err(refusal) => self.wait_at_door(now, Caller { key, who, refusal }),
        }
    }

    /// A connection has got its endpoint.
    pub(in crate::daemon) fn enter(&mut self, key: ConnectionKey, id: EndpointId) {
        let (Some(connection), Some(endpoint)) = (self.connections.get_mut(key), self.engine.endpoint(id)) else {
            return;
        };
        connection.endpoint = Some(id);
        let (id, peer, count) = (endpoint.number, endpoint.peer, self.engine.registered());
        let Some(Active { rules, .. }) = self.listeners.get(&connection.listener) else {
            return;
        };
        let (name, level) = (&rules.name, traffic_level(rules.role));
        log_at!(level, self.log, endpoint = id, listener = name, peer = peer; "#{id} connected from {peer} on {name}; {count} registered");
    }

    /// Tells a connection why it is not let in. It is closed when it has ended its side, or after a while: closed at once,
    /// what it may have sent already would make the kernel reset it, and the reason with it.
    pub(in crate::daemon) fn refuse(&mut self, now: Now, key: ConnectionKey, peer: Peer, refusal: Refusal) {
        self.engine.counters_mut().count_refused(refusal);
        let connection = &self.connections[key];
        let name = self.listeners.get(&connection.listener).map_or("?", |active| &active.rules.name);
        info!(self.log, listener = name, peer = peer, reason = refusal; "refused {peer} on {name}: {refusal}");
        // A new socket has room for a line; one that is broken already needs none.
        let _ = connection.stream.send(farewell(refusal.name()).as_bytes());
        self.linger(now, key);
    }
}

/// How much it matters who comes and goes. Where nobody gets upcalls it is only what they say that does: a health check comes
/// every few seconds, and says nothing.
pub(in crate::daemon) fn traffic_level(role: Role) -> Level {
    if role == Role::Input { Level::Debug } else { Level::Info }
}
