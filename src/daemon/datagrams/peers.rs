//! Datagram peers: which endpoint an address is, and how it is written to.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

use slotmap::{Key, KeyData, SlotMap};

use crate::net::datagram::{Destination, InFlight, LocalAddress, PeerSocket, UnixPeer};
use upcall_engine::{EndpointId, ListenerNumber};
use upcall_wire::address::{Peer as PeerAddress, UnixName};

/// The bit that tells the tokens of peers.
const PEER: u64 = 1 << 63;

slotmap::new_key_type! {
    pub(in crate::daemon) struct PeerKey;
}

impl PeerKey {
    /// For the engine.
    pub(in crate::daemon) fn tag(self) -> u64 {
        self.data().as_ffi()
    }

    /// For the poller: no connection's, since no slot is ever used 2³¹ times, nor a listener's.
    pub(in crate::daemon) fn token(self) -> u64 {
        self.tag() | PEER
    }

    pub(in crate::daemon) fn from_token(token: u64) -> Option<PeerKey> {
        (token & PEER != 0).then(|| PeerKey::from_tag(token & !PEER))
    }

    pub(in crate::daemon) fn from_tag(tag: u64) -> PeerKey {
        KeyData::from_ffi(tag).into()
    }
}

/// What a datagram says it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) enum PeerName {
    Inet(SocketAddr),
    Unix(UnixName),
}

/// By as few words as tell them apart (a cookie is such a hash, too): the derived one makes a dozen of an address.
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

/// How a peer is written to.
#[derive(Debug)]
pub(in crate::daemon) enum Route {
    Inet {
        address: SocketAddr,
        /// What it addressed, if our socket is bound to a wildcard: what it gets comes from there.
        local: Option<LocalAddress>,
    },
    Unix {
        peer: UnixPeer,
        /// The user who sends from there.
        uid: u32,
        /// While it is stalled, and for a while afterwards, a socket of its own: what it does not read is charged to that one.
        own: Option<OwnSocket>,
        /// What it may not have read yet of what came over the socket that all share.
        in_flight: InFlight,
    },
}

/// The sending socket of one peer.
#[derive(Debug)]
pub(in crate::daemon) struct OwnSocket {
    pub(in crate::daemon) socket: PeerSocket,
    /// It has refused something since it was last looked at.
    pub(in crate::daemon) refused: bool,
    /// It will be looked at whether it is still needed.
    pub(in crate::daemon) returning: bool,
}

impl Route {
    /// Whether it still leads there, for a peer that is heard at this local address: the peer may have addressed another of
    /// ours, or have made its socket anew.
    pub(in crate::daemon) fn is_current(&self, heard: Option<LocalAddress>) -> bool {
        match self {
            Route::Inet { local, .. } => *local == heard,
            Route::Unix { peer, .. } => peer.is_current(),
        }
    }

    pub(in crate::daemon) fn destination(&self) -> (Destination<'_>, Option<LocalAddress>) {
        match self {
            Route::Inet { address, local } => (Destination::Inet(*address), *local),
            Route::Unix { peer, .. } => (Destination::Unix(peer), None),
        }
    }
}

#[derive(Debug)]
pub(in crate::daemon) struct Peer {
    pub(in crate::daemon) listener: ListenerNumber,
    pub(in crate::daemon) name: PeerName,
    pub(in crate::daemon) route: Route,
    /// It speaks the native protocol.
    pub(in crate::daemon) native: bool,
    /// Its endpoint; the null key only until it is registered.
    pub(in crate::daemon) endpoint: EndpointId,
}

impl Peer {
    /// Whether what comes from its name may be its own: a Unix name may be another user's by now.
    pub(in crate::daemon) fn is_of(&self, sender: PeerAddress) -> bool {
        match (&self.route, sender) {
            (Route::Unix { uid, .. }, PeerAddress::Unix(credentials)) => *uid == credentials.uid,
            _ => true,
        }
    }
}

/// All registered datagram peers.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Peers {
    peers: SlotMap<PeerKey, Peer>,
    names: BTreeMap<ListenerNumber, HashMap<PeerName, PeerKey>>,
    /// How many speak the native protocol, by listener.
    native: HashMap<ListenerNumber, usize>,
}

impl Peers {
    pub(in crate::daemon) fn find(&self, listener: ListenerNumber, name: &PeerName) -> Option<(PeerKey, &Peer)> {
        let key = *self.names.get(&listener)?.get(name)?;
        self.peers.get(key).map(|peer| (key, peer))
    }

    pub(in crate::daemon) fn insert(&mut self, peer: Peer) -> PeerKey {
        let (listener, name) = (peer.listener, peer.name.clone());
        if peer.native {
            *self.native.entry(peer.listener).or_default() += 1;
        }
        let key = self.peers.insert(peer);
        self.names.entry(listener).or_default().insert(name, key);
        key
    }

    /// Whether anybody on a listener speaks the native protocol.
    pub(in crate::daemon) fn has_native(&self, listener: ListenerNumber) -> bool {
        self.native.get(&listener).is_some_and(|count| *count > 0)
    }

    /// A peer has another address from now on.
    pub(in crate::daemon) fn rename(&mut self, key: PeerKey, name: PeerName, route: Route) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let before = std::mem::replace(&mut peer.name, name.clone());
        peer.route = route;
        let listener = peer.listener;
        self.forget_name(listener, &before, key);
        self.names.entry(listener).or_default().insert(name, key);
    }

    pub(in crate::daemon) fn get(&self, key: PeerKey) -> Option<&Peer> {
        self.peers.get(key)
    }

    pub(in crate::daemon) fn get_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        self.peers.get_mut(key)
    }

    pub(in crate::daemon) fn remove(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.remove(key) {
            if peer.native
                && let Some(count) = self.native.get_mut(&peer.listener)
            {
                *count -= 1;
            }
            self.forget_name(peer.listener, &peer.name, key);
        }
    }

    /// A name does not stand for this peer any more. It may stand for another, which has joined since.
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
