//! The source of a datagram: whether it can be a peer, whether it is admitted, and under which address the limits count
//! it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use upcall_engine::{DatagramSource, Dropped, ListenerNumber};
use upcall_wire::address::{Address, Host, Peer};

use super::peers::{PeerName, Route};
use crate::daemon::listeners::{ActiveListener, ListenerSocket, admits};
use crate::daemon::log::{Logger, debug};
use crate::net::datagram::{InFlight, LocalAddress, Sender, UnixPeer};

/// Ports of services that answer every datagram. With a forged source address, the daemon and such a service would
/// answer each other without end (RFC 4732, section 2.3).
const REFLECTORS: [u16; 5] = [7, 13, 17, 19, 37];

/// The source of a datagram that can be answered, and is admitted.
pub(super) struct PeerSource {
    pub(super) listener: ListenerNumber,
    pub(super) name: PeerName,
    /// The address under which the limits count it, if that is not its name.
    network: Option<PeerName>,
    pub(super) peer: Peer,
    pub(super) local: Option<LocalAddress>,
    pub(super) trusted: bool,
}

impl PeerSource {
    /// Finds the source of a datagram. The error includes the peer if it is admitted but cannot be answered.
    pub(super) fn new(
        number: ListenerNumber,
        listener: &ActiveListener,
        from: Sender,
    ) -> Result<PeerSource, (Dropped, Option<Peer>)> {
        // The kernel reports only the sender's primary group.
        let admitted = |peer| match admits(&listener.rules, peer, Vec::new) {
            true => Ok(()),
            false => Err((Dropped::NotAllowed, None)),
        };
        match from {
            Sender::Inet { peer, local } => {
                if is_unanswerable(peer) || is_our_own(&listener.socket, peer, local) {
                    return Err((Dropped::BadAddress, None));
                }
                admitted(Peer::Inet(peer))?;
                let trusted = listener.rules.trusted.iter().any(|network| network.contains(&peer.ip()));
                let (name, network) = (PeerName::Inet(peer), Some(PeerName::Inet(network_of(peer))));
                Ok(PeerSource { listener: number, name, network, peer: Peer::Inet(peer), local, trusted })
            }
            Sender::Unix { name, credentials } => {
                let Some(credentials) = credentials else { return Err((Dropped::NoAddress, None)) };
                let peer = Peer::Unix(credentials);
                admitted(peer)?;
                let Some(name) = name else { return Err((Dropped::NoAddress, Some(peer))) };
                // Unix addresses cannot be forged: the kernel guarantees that the sender is bound to this one.
                let name = PeerName::Unix(name);
                Ok(PeerSource { listener: number, name, network: None, peer, local: None, trusted: true })
            }
        }
    }

    /// The source as the gate needs it.
    pub(super) fn claim(&self, registered: bool) -> DatagramSource<'_, PeerName> {
        DatagramSource {
            listener: self.listener,
            address: &self.name,
            source: self.network.as_ref().unwrap_or(&self.name),
            trusted: self.trusted,
            registered,
        }
    }

    /// The route to this source.
    pub(super) fn route(&self, logger: &mut Logger) -> Result<Route, Dropped> {
        match (&self.name, self.peer) {
            (PeerName::Inet(address), _) => Ok(Route::Inet { address: *address, local: self.local }),
            (PeerName::Unix(name), Peer::Unix(credentials)) => {
                let verified = UnixPeer::verify(name, credentials.uid);
                let peer = verified.map_err(|error| {
                    debug!(logger, "cannot send to {name}: {error}");
                    Dropped::BadAddress
                })?;
                Ok(Route::Unix { peer, uid: credentials.uid, own: None, in_flight: InFlight::default() })
            }
            (PeerName::Unix(_), Peer::Inet(_)) => Err(Dropped::BadAddress),
        }
    }
}

/// Whether this is an address that no single peer can have, or that must not be answered.
fn is_unanswerable(peer: SocketAddr) -> bool {
    let ip = peer.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    peer.port() == 0 || ip.is_multicast() || ip.is_unspecified() || broadcast || REFLECTORS.contains(&peer.port())
}

/// Whether it is the listener's own address.
fn is_our_own(socket: &ListenerSocket, peer: SocketAddr, local: Option<LocalAddress>) -> bool {
    let Address::Inet { host: Host::Ip(ip), port, .. } = socket.address() else { return false };
    let own = ip.to_canonical() == peer.ip() || local.is_some_and(|local| local.ip == peer.ip());
    *port == peer.port() && (own || (ip.is_unspecified() && peer.ip().is_loopback()))
}

/// The address under which the limits count a source: its /64 network (IPv6), or its IP address without the port.
fn network_of(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => {
            let network = v6.ip().to_bits() & !u128::from(u64::MAX);
            SocketAddr::new(Ipv6Addr::from_bits(network).into(), 0)
        }
        SocketAddr::V4(v4) => SocketAddr::new((*v4.ip()).into(), 0),
    }
}
