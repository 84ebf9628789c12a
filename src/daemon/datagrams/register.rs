//! Registers datagram peers, and keeps their routes current.

use upcall_engine::{Dropped, EndpointId, ExpectedProtocol, Now};
use upcall_wire::reason::Refusal;

use super::Datagrams;
use super::peers::DatagramPeer;
use super::source::PeerSource;
use crate::config::Level;
use crate::daemon::context::Context;
use crate::daemon::listeners::Listeners;
use crate::daemon::tokens::PeerKey;
use crate::daemon::traffic;

/// Why a peer is not registered.
pub(super) enum NotRegistered {
    /// It cannot be sent to.
    NoRoute(Dropped),
    Refused(Refusal),
}

impl Datagrams {
    /// Registers a peer, which replaces `old` if there is one.
    pub(super) fn register(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        now: Now,
        source: &PeerSource,
        protocol: ExpectedProtocol,
        old: Option<EndpointId>,
    ) -> Result<EndpointId, NotRegistered> {
        let route = source.route(&mut context.logger).map_err(NotRegistered::NoRoute)?;
        let &PeerSource { listener: number, ref name, peer, .. } = source;
        let Some(listener) = listeners.get(number) else { return Err(NotRegistered::NoRoute(Dropped::Refused)) };
        let registered = self.peers.try_insert(|key: PeerKey| {
            let registration = listener.registration(number, protocol, key.tag(), peer);
            let endpoint = context.engine.register_superseding(now, registration, old)?;
            let native = protocol == ExpectedProtocol::Native;
            Ok(DatagramPeer { listener: number, name: name.clone(), route, native, endpoint })
        });
        registered.map_err(|refusal| {
            context.engine.counters_mut().count_refused(refusal);
            // One source can send many such datagrams a second without a connection, so this is a detail.
            traffic::log_refused(context, listeners, Level::Debug, number, peer, refusal);
            NotRegistered::Refused(refusal)
        })
    }

    /// Replaces the route of a peer if its last datagram came by another one.
    pub(super) fn update_route(
        &mut self,
        context: &mut Context,
        key: PeerKey,
        source: &PeerSource,
    ) -> Result<(), Dropped> {
        if let Some(peer) = self.peers.get_mut(key)
            && !peer.route.is_current(source.local)
        {
            peer.route = source.route(&mut context.logger)?;
        }
        Ok(())
    }
}
