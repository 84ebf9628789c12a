//! Incoming text datagrams: the commands `join` and `bye`, and inputs.

use upcall_engine::{Dropped, EndpointId, ExpectedProtocol, Now, Verdict, is_command};
use upcall_wire::address::{Peer, Transport};
use upcall_wire::reason::Reason;

use super::Datagrams;
use super::register::NotRegistered;
use super::source::PeerSource;
use crate::config::{ListenerProtocol, ListenerRole};
use crate::daemon::context::Context;
use crate::daemon::listeners::Listeners;
use crate::daemon::tokens::PeerKey;
use crate::daemon::traffic;
use crate::net::datagram::Sender;

/// A peer that is registered under the name that a datagram comes from.
#[derive(Debug, Clone, Copy)]
struct Registered {
    key: PeerKey,
    endpoint: EndpointId,
    native: bool,
}

impl Datagrams {
    /// Handles a text datagram. While inputs are held, `held_from` is its sender, and the datagram is kept for later.
    pub(super) fn text_datagram(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        now: Now,
        source: &PeerSource,
        bytes: &[u8],
        held_from: Option<Sender>,
    ) -> Result<(), Dropped> {
        let registered = self.registered_as(context, listeners, now, source);
        let Some(listener) = listeners.get(source.listener) else { return Ok(()) };
        let (rules, transport) = (&listener.rules, listener.socket.address().transport());
        if rules.protocol == ListenerProtocol::Native || rules.token.is_some() {
            return Err(Dropped::Protocol);
        }
        if bytes.len() > context.config.upcall.max_message {
            return Err(Dropped::TooLarge);
        }
        if registered.is_some_and(|registered| registered.native) {
            return Err(Dropped::Protocol);
        }
        if context.drain.is_some() {
            return Err(Dropped::Refused);
        }
        if let Some(from) = held_from {
            return self.held.push(source.listener, from, bytes);
        }
        // After its `bye`, a peer counts as unknown, even while something is still due to it.
        let known = registered.filter(|registered| {
            context.engine.endpoint(registered.endpoint).is_some_and(|endpoint| endpoint.leaving().is_none())
        });
        let claim = source.claim(known.is_some());
        if rules.role == ListenerRole::Input {
            if !self.gate.allows_input(now.time, &claim) {
                return Err(Dropped::RateLimited);
            }
            return unregistered_input(context, now, transport, source.peer, bytes, source.trusted);
        }
        match self.gate.judge(now.time, &claim, bytes) {
            Verdict::Drop(dropped) => return Err(dropped),
            Verdict::Challenge => {
                let line = self.gate.challenge(now.time, &claim);
                self.answer(&mut context.logger, listeners, source, line.as_bytes());
            }
            Verdict::Join => drop(self.join(context, listeners, now, source, known)?),
            Verdict::Bye => {
                if let Some(known) = known {
                    context.engine.leave(now, known.endpoint, Reason::Closed);
                }
            }
            Verdict::Input => {
                let endpoint = match known {
                    Some(known) if !source.trusted => known.endpoint,
                    known => self.join(context, listeners, now, source, known)?,
                };
                if rules.role == ListenerRole::Output {
                    return Err(Dropped::OutputOnly);
                }
                context.input(now, endpoint, bytes);
            }
        }
        Ok(())
    }

    /// The peer that is registered under the name of a source. If the name belongs to another user now, removes the old
    /// peer and returns `None`.
    fn registered_as(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        now: Now,
        source: &PeerSource,
    ) -> Option<Registered> {
        let (key, peer) = self.peers.find(source.listener, &source.name)?;
        let registered = Registered { key, endpoint: peer.endpoint, native: peer.native };
        if peer.is_of(source.peer) {
            return Some(registered);
        }
        self.replace(context, listeners, now, registered.endpoint);
        None
    }

    /// Registers a peer, or renews the lease of a `known` one.
    fn join(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        now: Now,
        source: &PeerSource,
        known: Option<Registered>,
    ) -> Result<EndpointId, Dropped> {
        if let Some(Registered { key, endpoint, .. }) = known {
            self.update_route(context, key, source)?;
            context.engine.renew(now, endpoint);
            return Ok(endpoint);
        }
        match self.register(context, listeners, now, source, ExpectedProtocol::Text, None) {
            Ok(endpoint) => {
                traffic::log_joined(context, listeners, endpoint);
                Ok(endpoint)
            }
            Err(NotRegistered::NoRoute(dropped)) => Err(dropped),
            Err(NotRegistered::Refused(_)) => Err(Dropped::Refused),
        }
    }
}

/// Handles a datagram to a listener whose clients are not registered.
pub(super) fn unregistered_input(
    context: &mut Context,
    now: Now,
    transport: Transport,
    peer: Peer,
    data: &[u8],
    trusted: bool,
) -> Result<(), Dropped> {
    if data.is_empty() {
        return Err(Dropped::Empty);
    }
    if is_command(data, trusted) {
        // A client that does not know the listener's role sends `join` first and `bye` at the end.
        return Err(Dropped::NotRegistered);
    }
    context.input_from(now, transport, peer, data);
    Ok(())
}
