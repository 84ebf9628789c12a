//! Outgoing datagrams: groups the endpoints that share a socket, and handles errors of sending.

use upcall_engine::{EndpointId, Engine, ListenerNumber, Now};
use upcall_wire::frame::{UPCALL_OVERHEAD, datagram};
use upcall_wire::reason::Reason;
use upcall_wire::topic::MAX_TOPIC;

use super::Datagrams;
use super::peers::{OwnSocket, Route, key_of};
use crate::daemon::context::Context;
use crate::daemon::listeners::{ActiveListener, ListenerSocket, Listeners};
use crate::daemon::log::warning;
use crate::daemon::tokens::EventToken;
use crate::net::datagram::{PeerSocket, SendError};
use crate::net::poller::Interest;

impl Datagrams {
    /// Sends what is due to these endpoints, which are all datagram endpoints.
    pub(in crate::daemon) fn send(
        &mut self,
        context: &mut Context,
        listeners: &mut Listeners,
        now: Now,
        endpoints: &mut Vec<EndpointId>,
    ) {
        // The endpoints of one listener share its socket, so one system call can send to many of them.
        endpoints.sort_by_key(|id| group_of(&context.engine, *id));
        loop {
            endpoints.retain(|id| context.engine.endpoint(*id).is_some());
            let Some(&first) = endpoints.first() else { return };
            let Some((number, is_text)) = group_of(&context.engine, first) else { return };
            let is_other = |id: &EndpointId| group_of(&context.engine, *id) != Some((number, is_text));
            let end = endpoints.iter().position(is_other).unwrap_or(endpoints.len());
            // Usually there are no others, and nothing is copied.
            let others = endpoints.split_off(end);
            if is_unix(&context.engine, first) {
                endpoints.retain(|id| !self.send_over_own_socket(context, now, *id, is_text));
            }
            if is_text {
                while !endpoints.is_empty() {
                    self.send_round(context, listeners, now, number, endpoints);
                }
            } else {
                self.send_native(context, listeners, now, number, endpoints);
            }
            endpoints.clear();
            endpoints.extend(others);
        }
    }

    /// Handles a failed send: blocks the endpoint until a send can succeed, or removes it if its peer is gone.
    pub(super) fn suspend(
        &mut self,
        context: &mut Context,
        listeners: &mut Listeners,
        now: Now,
        number: ListenerNumber,
        id: EndpointId,
        error: SendError,
    ) {
        match error {
            SendError::Full if is_unix(&context.engine, id) => self.refused(context, listeners, now, number, id),
            SendError::Full => {
                context.engine.blocked(now, id);
                listeners.await_room(context, number, id);
            }
            SendError::Gone => gone(&mut context.engine, now, id),
            SendError::NoMemory | SendError::TooLarge | SendError::Unreachable(_) => {
                context.engine.blocked(now, id);
                context.timers.no_memory.add(now.time, id);
            }
        }
    }

    /// The shared socket has refused a datagram to a Unix peer, because the peer's queue or the socket's send buffer is
    /// full.
    fn refused(
        &mut self,
        context: &mut Context,
        listeners: &mut Listeners,
        now: Now,
        number: ListenerNumber,
        id: EndpointId,
    ) {
        if let Some(ActiveListener { socket: ListenerSocket::Datagrams(socket), flow, rules, .. }) =
            listeners.get_mut(number)
            && let Some(kept) = flow.note_full(socket)
        {
            warning!(
                context.logger, listener = rules.name;
                "{}: the send buffer is full: clients have left {} KiB unread, and clients with connected sockets have \
                 to wait; raise net.core.wmem_max (sysctl) and restart, or admit fewer clients",
                rules.name,
                kept.sending.div_ceil(1024)
            );
        }
        self.stalled(context, now, id);
    }

    /// Handles a Unix peer that does not read, or seems not to. It gets a sending socket of its own, so that its unread
    /// datagrams are charged to that socket alone. It may be that other peers have filled the shared socket while this
    /// one reads well, so the daemon sends over the new socket at once. A peer that has connected its socket to ours
    /// cannot be sent to over another one; the daemon tries again later.
    pub(super) fn stalled(&mut self, context: &mut Context, now: Now, id: EndpointId) {
        let Some(key) = key_of(&context.engine, id) else { return };
        let max_message = context.config.upcall.max_message;
        let framed = max_message + datagram::OVERHEAD + UPCALL_OVERHEAD + MAX_TOPIC;
        let largest = context.config.upcall.format.max_rendered(max_message).max(framed);
        if let Some(peer) = self.peers.get_mut(key)
            && let Route::Unix { peer, own: own @ None, .. } = &mut peer.route
        {
            let token = EventToken::Peer(key).encode();
            let socket = PeerSocket::connect(peer, largest).ok();
            // Only a connected socket reports correctly when the peer's queue has room (unix(7)).
            let watched = |socket: &PeerSocket| context.poller.add(socket, token, Interest::ReadWrite).is_ok();
            *own = socket.filter(watched).map(OwnSocket::new);
            if own.is_some() {
                let is_text = context.engine.endpoint(id).is_some_and(|endpoint| !endpoint.is_native());
                if !self.send_over_own_socket(context, now, id, is_text) {
                    gone(&mut context.engine, now, id);
                }
                return;
            }
        }
        context.engine.blocked(now, id);
        if !self.peers.has_own_socket(key) {
            context.timers.peer_queue_full.add(now.time, id);
        }
    }
}

/// The listener of an endpoint, and whether it gets text. Endpoints with the same values are sent to together.
fn group_of(engine: &Engine, id: EndpointId) -> Option<(ListenerNumber, bool)> {
    engine.endpoint(id).map(|endpoint| (endpoint.listener, !endpoint.is_native()))
}

pub(super) fn is_unix(engine: &Engine, id: EndpointId) -> bool {
    engine.endpoint(id).is_some_and(|endpoint| !endpoint.transport.is_inet())
}

/// Removes the endpoint of a peer whose address no socket has any more.
fn gone(engine: &mut Engine, now: Now, id: EndpointId) {
    let leaving = engine.endpoint(id).and_then(|endpoint| endpoint.leaving());
    engine.connection_lost(now, id, leaving.unwrap_or(Reason::Reset));
}
