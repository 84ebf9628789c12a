//! Registered datagram peers: which endpoint an address belongs to, and the route for sending to it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

use slotmap::SlotMap;
use upcall_engine::{EndpointId, Engine, ListenerNumber};
use upcall_wire::address::{Peer, UnixName};

use crate::daemon::tokens::PeerKey;
use crate::net::datagram::{Destination, InFlight, LocalAddress, PeerSocket, UnixPeer};

/// The address that a datagram carries as its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PeerName {
    Inet(SocketAddr),
    Unix(UnixName),
}

/// Hashes only the words that distinguish names (cookies are computed from this hash too). The derived implementation
/// feeds a dozen values to the hasher for one address.
impl Hash for PeerName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            PeerName::Inet(SocketAddr::V4(v4)) => {
                state.write_u64(u64::from(v4.ip().to_bits()) << 16 | u64::from(v4.port()));
            }
            PeerName::Inet(SocketAddr::V6(v6)) => {
                state.write_u128(v6.ip().to_bits());
                state.write_u64(u64::from(v6.scope_id()) << 16 | u64::from(v6.port()));
            }
            PeerName::Unix(UnixName::Abstract(name)) => state.write(name),
            PeerName::Unix(UnixName::Path(path)) => path.hash(state),
        }
    }
}

/// How datagrams reach a peer.
#[derive(Debug)]
pub(super) enum Route {
    Inet {
        address: SocketAddr,
        /// The address that the peer sends to, if our socket is bound to a wildcard. Datagrams to the peer have it as
        /// their source.
        local: Option<LocalAddress>,
    },
    Unix {
        peer: UnixPeer,
        /// The user that sends from there.
        uid: u32,
        /// A sending socket of its own, while the peer is stalled and for a while afterwards. Its unread datagrams are
        /// charged to that socket.
        own: Option<OwnSocket>,
        /// Datagrams sent over the shared socket that the peer may not have read yet.
        in_flight: InFlight,
    },
}

/// The sending socket of one peer.
#[derive(Debug)]
pub(super) struct OwnSocket {
    pub(super) socket: PeerSocket,
    /// It has refused a datagram since the last check.
    pub(super) refused: bool,
    /// A check of whether it is still needed is scheduled.
    pub(super) check_is_due: bool,
}

impl OwnSocket {
    /// The state of a new socket, for a peer to which the shared socket has refused a datagram.
    pub(super) fn new(socket: PeerSocket) -> OwnSocket {
        OwnSocket { socket, refused: true, check_is_due: false }
    }
}

impl Route {
    /// Whether the route is still right for a peer that has sent to this local address. The peer may use another of our
    /// addresses now, or may have created its socket again.
    pub(super) fn is_current(&self, addressed: Option<LocalAddress>) -> bool {
        match self {
            Route::Inet { local, .. } => *local == addressed,
            Route::Unix { peer, .. } => peer.is_current(),
        }
    }

    /// The destination of a datagram, and its source address.
    pub(super) fn destination(&self) -> (Destination<'_>, Option<LocalAddress>) {
        match self {
            Route::Inet { address, local } => (Destination::Inet(*address), *local),
            Route::Unix { peer, .. } => (Destination::Unix(peer), None),
        }
    }
}

/// A registered peer.
#[derive(Debug)]
pub(super) struct DatagramPeer {
    pub(super) listener: ListenerNumber,
    pub(super) name: PeerName,
    pub(super) route: Route,
    /// It speaks the native protocol.
    pub(super) native: bool,
    pub(super) endpoint: EndpointId,
}

impl DatagramPeer {
    /// Whether a datagram from its name may come from this peer. A Unix name may belong to another user now.
    pub(super) fn is_of(&self, sender: Peer) -> bool {
        match (&self.route, sender) {
            (Route::Unix { uid, .. }, Peer::Unix(credentials)) => *uid == credentials.uid,
            _ => true,
        }
    }
}

/// The key of the peer of a datagram endpoint.
pub(super) fn key_of(engine: &Engine, id: EndpointId) -> Option<PeerKey> {
    engine.endpoint(id).map(|endpoint| PeerKey::from_tag(endpoint.tag))
}

/// All registered datagram peers.
#[derive(Debug, Default)]
pub(super) struct DatagramPeers {
    peers: SlotMap<PeerKey, DatagramPeer>,
    names: BTreeMap<ListenerNumber, HashMap<PeerName, PeerKey>>,
    /// How many peers speak the native protocol, by listener.
    native: HashMap<ListenerNumber, usize>,
}

impl DatagramPeers {
    pub(super) fn find(&self, listener: ListenerNumber, name: &PeerName) -> Option<(PeerKey, &DatagramPeer)> {
        let key = *self.names.get(&listener)?.get(name)?;
        self.peers.get(key).map(|peer| (key, peer))
    }

    /// Adds the peer that `register` creates for its key, or returns the error of `register`.
    pub(super) fn try_insert<E>(
        &mut self,
        register: impl FnOnce(PeerKey) -> Result<DatagramPeer, E>,
    ) -> Result<EndpointId, E> {
        let key = self.peers.try_insert_with_key(register)?;
        let DatagramPeer { listener, ref name, native, endpoint, .. } = self.peers[key];
        if native {
            *self.native.entry(listener).or_default() += 1;
        }
        self.names.entry(listener).or_default().insert(name.clone(), key);
        Ok(endpoint)
    }

    /// Whether any peer of a listener speaks the native protocol.
    pub(super) fn has_native(&self, listener: ListenerNumber) -> bool {
        self.native.get(&listener).is_some_and(|count| *count > 0)
    }

    /// Changes the address of a peer.
    pub(super) fn rename(&mut self, key: PeerKey, name: PeerName, route: Route) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let before = std::mem::replace(&mut peer.name, name.clone());
        peer.route = route;
        let listener = peer.listener;
        self.forget_name(listener, &before, key);
        self.names.entry(listener).or_default().insert(name, key);
    }

    pub(super) fn get(&self, key: PeerKey) -> Option<&DatagramPeer> {
        self.peers.get(key)
    }

    pub(super) fn get_mut(&mut self, key: PeerKey) -> Option<&mut DatagramPeer> {
        self.peers.get_mut(key)
    }

    /// The slot for a Unix peer's own sending socket; `None` for other peers.
    pub(super) fn own_socket_mut(&mut self, key: PeerKey) -> Option<&mut Option<OwnSocket>> {
        match &mut self.peers.get_mut(key)?.route {
            Route::Unix { own, .. } => Some(own),
            Route::Inet { .. } => None,
        }
    }

    /// Whether a peer has a sending socket of its own.
    pub(super) fn has_own_socket(&self, key: PeerKey) -> bool {
        self.get(key).is_some_and(|peer| matches!(peer.route, Route::Unix { own: Some(_), .. }))
    }

    /// The address of a Unix peer, and the datagrams that it may not have read yet.
    pub(super) fn in_flight_mut(&mut self, key: PeerKey) -> Option<(&UnixPeer, &mut InFlight)> {
        match &mut self.peers.get_mut(key)?.route {
            Route::Unix { peer, in_flight, .. } => Some((peer, in_flight)),
            Route::Inet { .. } => None,
        }
    }

    pub(super) fn remove(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.remove(key) {
            if peer.native
                && let Some(count) = self.native.get_mut(&peer.listener)
            {
                *count -= 1;
            }
            self.forget_name(peer.listener, &peer.name, key);
        }
    }

    /// Removes the name of a peer, unless another peer that has joined since has it.
    fn forget_name(&mut self, listener: ListenerNumber, name: &PeerName, key: PeerKey) {
        let Some(names) = self.names.get_mut(&listener) else { return };
        if names.get(name) == Some(&key) {
            names.remove(name);
        }
        if names.is_empty() {
            self.names.remove(&listener);
        }
    }
}
