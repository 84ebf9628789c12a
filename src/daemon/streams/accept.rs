//! Accepts connections, and registers them or refuses them with a reason.

use upcall_engine::{EndpointId, ExpectedProtocol, ListenerNumber, Now};
use upcall_wire::address::Peer;
use upcall_wire::reason::Refusal;

use super::Streams;
use super::connection::Connection;
use super::waiting_room::Waiting;
use crate::config::{ListenerConfig, ListenerProtocol};
use crate::daemon::context::Context;
use crate::daemon::listeners::{ListenerSocket, Listeners, admits};
use crate::daemon::log::{Count, debug, info, warning};
use crate::daemon::tokens::{ConnectionKey, EventToken};
use crate::daemon::traffic;
use crate::net::listener::{AcceptOutcome, BACKLOG};
use crate::net::peer_groups;
use crate::net::poller::Interest;
use crate::net::stream::Stream;

/// At most this many connections are accepted from one listener in a turn, so that registered endpoints are served in
/// between.
const PER_TURN: usize = 64;

/// The protocol that clients of this listener are expected to speak. Only native clients can send a token.
fn expected_protocol(rules: &ListenerConfig) -> ExpectedProtocol {
    match rules.protocol {
        _ if rules.token.is_some() => ExpectedProtocol::Native,
        ListenerProtocol::Auto => ExpectedProtocol::Auto,
        ListenerProtocol::Text => ExpectedProtocol::Text,
        ListenerProtocol::Native => ExpectedProtocol::Native,
    }
}

impl Streams {
    /// Accepts from every listener that may have connections pending.
    pub(in crate::daemon) fn accept(&mut self, context: &mut Context, listeners: &mut Listeners, now: Now) {
        if context.timers.no_descriptors.next().is_some() {
            return;
        }
        let mut from = 0;
        while let Some(number) = listeners.next_pending(from, true) {
            from = number + 1;
            self.accept_from(context, listeners, now, number);
        }
    }

    /// Accepts all connections that are pending at a listener, as long as there are file descriptors.
    pub(in crate::daemon) fn accept_all(
        &mut self,
        context: &mut Context,
        listeners: &mut Listeners,
        now: Now,
        number: ListenerNumber,
    ) {
        for _ in 0..=BACKLOG / PER_TURN {
            listeners.mark_pending(number);
            self.accept_from(context, listeners, now, number);
            let is_pending = listeners.get(number).is_some_and(|listener| listener.pending);
            if !is_pending || context.timers.no_descriptors.next().is_some() {
                return;
            }
        }
    }

    fn accept_from(&mut self, context: &mut Context, listeners: &mut Listeners, now: Now, number: ListenerNumber) {
        for _ in 0..PER_TURN {
            let Some(listener) = listeners.get_mut(number) else { return };
            let ListenerSocket::Streams(socket) = &listener.socket else { return };
            match socket.accept() {
                AcceptOutcome::Stream(stream, peer) => self.admit(context, listeners, now, number, stream, peer),
                AcceptOutcome::Drained => {
                    listener.pending = false;
                    if std::mem::take(&mut self.is_pause_logged) {
                        info!(context.logger, "accepting connections again");
                    }
                    return;
                }
                AcceptOutcome::Failed(error) => {
                    let name = &listener.rules.name;
                    debug!(
                        context.logger, listener = name;
                        "a connection to {name} ended before it was accepted: {error}"
                    );
                }
                AcceptOutcome::OutOfResources(error) => {
                    if !std::mem::replace(&mut self.is_pause_logged, true) {
                        let endpoints = Count(context.engine.len(), "endpoint");
                        warning!(context.logger, "accepting paused with {endpoints}: {error}");
                    }
                    context.timers.no_descriptors.add(now.time, ());
                    return;
                }
            }
        }
    }

    fn admit(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        now: Now,
        number: ListenerNumber,
        stream: Stream,
        peer: Peer,
    ) {
        let Some(listener) = listeners.get(number) else { return };
        let refusal = if context.drain.is_some() {
            Some(Refusal::Shutdown)
        } else if !admits(&listener.rules, peer, || peer_groups(&stream).unwrap_or_default()) {
            Some(Refusal::NotAllowed)
        } else {
            None
        };
        let protocol = expected_protocol(&listener.rules);
        let key = self.connections.insert(Connection::new(stream, number, listener.rules.framing, protocol));
        let stream = &self.connections[key].stream;
        if let Err(error) = context.poller.add(stream, EventToken::Connection(key).encode(), Interest::Read) {
            warning!(context.logger, "cannot watch a connection from {peer}: {error}");
            return self.close(context, key);
        }
        if let Some(refusal) = refusal {
            return self.refuse(context, listeners, now, key, peer, refusal);
        }
        let registration = listener.registration(number, protocol, key.tag(), peer);
        match context.engine.register(now, registration) {
            Ok(endpoint) => self.enter(context, listeners, key, endpoint),
            Err(refusal) if protocol == ExpectedProtocol::Text => {
                self.refuse(context, listeners, now, key, peer, refusal);
            }
            Err(refusal) => self.wait_for_place(context, listeners, now, Waiting { key, registration, refusal }),
        }
    }

    /// Records that a connection was registered.
    pub(super) fn enter(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        key: ConnectionKey,
        endpoint: EndpointId,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.endpoint = Some(endpoint);
        traffic::log_connected(context, listeners, endpoint);
    }
}
