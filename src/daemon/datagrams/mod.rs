//! Datagrams come in: judged by the gate, registered, renewed, made inputs; or dropped, and counted.

pub(in crate::daemon) mod held;
pub(in crate::daemon) mod native_in;
pub(in crate::daemon) mod native_out;
pub(in crate::daemon) mod peers;
pub(in crate::daemon) mod send;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::config::{Config, Level, Protocol, Role};
use crate::daemon::datagrams::peers::{Peer, PeerKey, PeerName, Route};
use crate::daemon::listeners::admission;
use crate::daemon::listeners::{Active, Socket};
use crate::daemon::log::{debug, info, warning};
use crate::daemon::server::Server;
use crate::daemon::streams::read::log_input;
use crate::net::datagram::{Datagram, Destination, InFlight, Inbox, LocalAddress, Received, Sender, UnixPeer};
use upcall_engine::{
    DatagramSource, Dropped, EndpointId, ExpectedProtocol, Intake, ListenerNumber, Now, Registration, Verdict,
    is_command,
};
use upcall_wire::address::{Address, Host, Peer as PeerAddress, Transport};
use upcall_wire::frame::{SEND_OVERHEAD, datagram};
use upcall_wire::reason::Reason;
use upcall_wire::topic::MAX_TOPIC;

/// System calls for one listener in one turn: those who use others have to be served, too.
const CALLS: usize = 8;

/// Services that answer whatever they get: a forged source would make us talk to them for ever (RFC 4732, section 2.3).
const REFLECTORS: [u16; 5] = [7, 13, 17, 19, 37];

/// The largest datagram that is ever received, in bytes: Unix sockets carry what their send buffers hold.
const LARGEST: usize = 1 << 20;

/// An inbox for the messages of this configuration. One call takes no more than a turn may append to the log, whatever
/// is waiting, and however long it is once it is rendered.
pub(in crate::daemon) fn inbox(config: &Config) -> Box<Inbox> {
    let max_message = config.upcall.max_message;
    let rendered = config.upcall.format.max_rendered(max_message).max(1);
    // A message comes with what the native protocol has around it.
    let largest = max_message + datagram::OVERHEAD + SEND_OVERHEAD + MAX_TOPIC;
    let count = (config.slow_consumer.max_behind / 4 / rendered).clamp(1, 64);
    Box::new(Inbox::new(count, largest.min(LARGEST)))
}

/// Where a datagram comes from, once it is known to be somewhere.
pub(in crate::daemon) struct Source {
    pub(in crate::daemon) name: PeerName,
    pub(in crate::daemon) peer: PeerAddress,
    pub(in crate::daemon) local: Option<LocalAddress>,
    pub(in crate::daemon) trusted: bool,
}

impl Server {
    /// Takes datagrams from every listener where some may be waiting, as long as the engine takes inputs.
    pub(in crate::daemon) fn receive_datagrams(&mut self, now: Now) {
        let is_waiting = |active: &Active| active.waiting && matches!(active.socket, Socket::Datagrams(_));
        let mut from = 0;
        while let Some((&number, _)) = self.listeners.range(from..).find(|(_, active)| is_waiting(active)) {
            from = number + 1;
            for _ in 0..CALLS {
                if !self.may_receive_datagrams(number) || !self.receive_batch(now, number) {
                    break;
                }
            }
        }
    }

    /// While inputs wait, and in the end, datagrams wait in the socket's buffer; unless acknowledgements may be among them.
    pub(in crate::daemon) fn may_receive_datagrams(&self, number: ListenerNumber) -> bool {
        match self.engine.intake() {
            _ if self.drain.is_some() => self.peers.has_native(number),
            Intake::Open => true,
            Intake::Full => false,
            Intake::Held | Intake::Only(_) => self.peers.has_native(number),
        }
    }

    /// Takes one batch; says whether there may be another.
    pub(in crate::daemon) fn receive_batch(&mut self, now: Now, number: ListenerNumber) -> bool {
        let Some(active) = self.listeners.get_mut(&number) else { return false };
        let Socket::Datagrams(socket) = &active.socket else { return false };
        // The handling needs all of the server but this.
        let Some(mut inbox) = self.inbox.take() else { return false };
        let capacity = inbox.capacity();
        let more = match socket.receive(&mut inbox) {
            Received::Datagrams(count) => {
                // Less than there is room for was all there was: the poller says when there is more.
                active.waiting = count == capacity;
                for datagram in inbox.iter() {
                    if let Err(dropped) = self.handle_datagram(now, number, datagram) {
                        self.engine.counters_mut().count_dropped(dropped);
                        let name = self.listeners.get(&number).map_or("?", |active| &active.rules.name);
                        let reason = dropped.name();
                        debug!(self.log, listener = name, reason = reason; "dropped a datagram on {name}: {reason}");
                    }
                }
                count == capacity
            }
            Received::Elsewhere(_) => true,
            Received::Drained => {
                active.waiting = false;
                false
            }
            Received::Starved => {
                active.waiting = false;
                self.dry.add(now.time, number);
                false
            }
            Received::Broken(error) => {
                active.waiting = false;
                warning!(self.log, listener = active.rules.name; "cannot receive on {}: {error}", active.socket.address());
                false
            }
        };
        self.inbox = Some(inbox);
        more
    }

    pub(in crate::daemon) fn handle_datagram(
        &mut self,
        now: Now,
        number: ListenerNumber,
        datagram: Datagram<'_>,
    ) -> Result<(), Dropped> {
        let Some(active) = self.listeners.get(&number) else { return Ok(()) };
        let (role, transport) = (active.rules.role, active.socket.address().transport());
        if datagram.truncated {
            return Err(Dropped::TooLarge);
        }
        if datagram.looped {
            return Err(Dropped::Looped);
        }
        let held = matches!(self.engine.intake(), Intake::Held | Intake::Only(_));
        let to_defer = held.then(|| datagram.from.clone());
        let source = match source(active, datagram.from) {
            Ok(source) => source,
            // It cannot be answered, and need not be.
            Err((Dropped::NoAddress, Some(peer))) if role == Role::Input => {
                return self.stranger_says(now, transport, peer, datagram.bytes, true);
            }
            Err((dropped, _)) => return Err(dropped),
        };
        let is_native = datagram.bytes.first() == Some(&0) && active.rules.protocol != Protocol::Text;
        if is_native {
            // Its key says whose it is.
            return self.native_datagram(now, number, &source, datagram.bytes);
        }
        let mut registered = self.peers.find(number, &source.name);
        if let Some((_, peer)) = registered
            && !peer.is_of(source.peer)
        {
            let former = peer.endpoint;
            self.oust(now, former);
            registered = None;
        }
        let Some(active) = self.listeners.get(&number) else { return Ok(()) };
        if active.rules.protocol == Protocol::Native || active.rules.token.is_some() {
            return Err(Dropped::Protocol);
        }
        if datagram.bytes.len() > self.config.upcall.max_message {
            return Err(Dropped::TooLarge);
        }
        if registered.is_some_and(|(_, peer)| peer.native) {
            return Err(Dropped::Protocol);
        }
        if self.drain.is_some() {
            return Err(Dropped::Refused);
        }
        if let Some(from) = to_defer {
            return self.defer(number, from, datagram.bytes);
        }
        // One that has said bye is not known any more, even while it still has something to get.
        let known = registered.map(|(key, peer)| (key, peer.endpoint)).filter(|(_, endpoint)| {
            self.engine.endpoint(*endpoint).is_some_and(|endpoint| endpoint.leaving().is_none())
        });
        let limited = limited(&source.name);
        let claim = DatagramSource {
            listener: number,
            address: &source.name,
            source: &limited,
            trusted: source.trusted,
            registered: known.is_some(),
        };
        if role == Role::Input {
            if !self.gate.allows_input(now.time, &claim) {
                return Err(Dropped::RateLimited);
            }
            return self.stranger_says(now, transport, source.peer, datagram.bytes, source.trusted);
        }
        match self.gate.judge(now.time, &claim, datagram.bytes) {
            Verdict::Drop(dropped) => return Err(dropped),
            Verdict::Challenge => {
                let line = self.gate.challenge(now.time, &claim);
                self.answer(number, &source, &line);
            }
            Verdict::Join => drop(self.join(now, number, &source, known)?),
            Verdict::Bye => {
                if let Some((_, endpoint)) = known {
                    self.engine.leave(now, endpoint, Reason::Closed);
                }
            }
            Verdict::Input => {
                let endpoint = match known {
                    Some((_, endpoint)) if !source.trusted => endpoint,
                    known => self.join(now, number, &source, known)?,
                };
                if role == Role::Output {
                    return Err(Dropped::OutputOnly);
                }
                self.datagram_input(now, endpoint, datagram.bytes);
            }
        }
        Ok(())
    }

    /// What was registered is gone: its name is another user's by now, whom the rules have let in by itself, or begins anew.
    pub(in crate::daemon) fn oust(&mut self, now: Now, former: EndpointId) {
        self.engine.connection_lost(now, former, Reason::Reset);
        self.see_off(now);
    }

    fn datagram_input(&mut self, now: Now, endpoint: EndpointId, data: &[u8]) {
        let accepted = self.engine.input(now, endpoint, data);
        if let Some(accepted) = accepted
            && self.log_inputs
            && self.log.enabled(Level::Info)
        {
            let id = self.engine.endpoint(endpoint).map_or(0, |endpoint| endpoint.number);
            log_input(&mut self.log, id, data, accepted);
        }
    }

    /// An input from somebody who is not registered, to a listener that registers nobody.
    fn stranger_says(
        &mut self,
        now: Now,
        transport: Transport,
        peer: PeerAddress,
        data: &[u8],
        trusted: bool,
    ) -> Result<(), Dropped> {
        if data.is_empty() {
            return Err(Dropped::Empty);
        }
        if is_command(data, trusted) {
            // A client that does not know the listener's role joins first, and leaves in the end.
            return Err(Dropped::NotRegistered);
        }
        let accepted = self.engine.input_from(now, transport, peer, data);
        if self.log_inputs && self.log.enabled(Level::Info) {
            log_input(&mut self.log, 0, data, accepted);
        }
        Ok(())
    }

    /// Registers a peer, or renews its lease.
    fn join(
        &mut self,
        now: Now,
        number: ListenerNumber,
        source: &Source,
        known: Option<(PeerKey, EndpointId)>,
    ) -> Result<EndpointId, Dropped> {
        if let Some((key, endpoint)) = known {
            if self.peers.get(key).is_some_and(|peer| !peer.route.is_current(source.local)) {
                self.renew_route(key, source)?;
            }
            self.engine.renew(now, endpoint);
            return Ok(endpoint);
        }
        let route = self.route(source)?;
        let Some(Active { rules, socket, .. }) = self.listeners.get(&number) else { return Err(Dropped::Refused) };
        let (max_per_listener, max_per_source) = (rules.max_endpoints, admission::max_per_source(rules, source.peer));
        let (transport, peer) = (socket.address().transport(), source.peer);
        let endpoint = EndpointId::default();
        let name = source.name.clone();
        let key = self.peers.insert(Peer { listener: number, name, route, native: false, endpoint });
        let tag = key.tag();
        let who = Registration {
            protocol: ExpectedProtocol::Text,
            tag,
            listener: number,
            transport,
            peer,
            receives: true,
            max_per_listener,
            max_per_source,
        };
        match self.engine.register(now, who) {
            Ok(endpoint) => {
                if let Some(peer) = self.peers.get_mut(key) {
                    peer.endpoint = endpoint;
                }
                let id = self.engine.endpoint(endpoint).map_or(0, |endpoint| endpoint.number);
                let count = self.engine.registered();
                let name = &rules.name;
                info!(
                    self.log, endpoint = id, listener = name, peer = peer;
                    "#{id} joined from {peer} on {name}; {count} registered"
                );
                Ok(endpoint)
            }
            Err(refusal) => {
                self.engine.counters_mut().count_refused(refusal);
                self.peers.remove(key);
                // Nobody has connected: what one stranger can send in a second is no news each time.
                let name = &rules.name;
                debug!(self.log, listener = name, peer = peer, reason = refusal; "refused {peer} on {name}: {refusal}");
                Err(Dropped::Refused)
            }
        }
    }

    /// How a peer is written to from now on.
    pub(in crate::daemon) fn route(&mut self, source: &Source) -> Result<Route, Dropped> {
        match (&source.name, source.peer) {
            (PeerName::Inet(address), _) => Ok(Route::Inet { address: *address, local: source.local }),
            (PeerName::Unix(name), PeerAddress::Unix(credentials)) => {
                let verified = UnixPeer::verify(name, credentials.uid);
                let peer = verified.map_err(|error| {
                    debug!(self.log, "{name} is not written to: {error}");
                    Dropped::BadAddress
                })?;
                Ok(Route::Unix { peer, uid: credentials.uid, own: None, in_flight: InFlight::default() })
            }
            (PeerName::Unix(_), PeerAddress::Inet(_)) => Err(Dropped::BadAddress),
        }
    }

    /// A peer's route is not [current](Route::is_current) any more.
    pub(in crate::daemon) fn renew_route(&mut self, key: PeerKey, source: &Source) -> Result<(), Dropped> {
        let route = self.route(source)?;
        if let Some(peer) = self.peers.get_mut(key) {
            peer.route = route;
        }
        Ok(())
    }

    /// One line to somebody who is not registered.
    fn answer(&mut self, number: ListenerNumber, source: &Source, line: &str) {
        let Some(Active { socket: Socket::Datagrams(socket), .. }) = self.listeners.get(&number) else { return };
        if let PeerName::Inet(address) = source.name {
            let mut batch = socket.batch(&mut self.outbox);
            batch.push(Destination::Inet(address), source.local, [std::io::IoSlice::new(line.as_bytes())], None);
            // Whatever becomes of it: who wants to join asks again.
            let _ = batch.send();
        }
    }

    /// A datagram endpoint has left the registry.
    pub(in crate::daemon) fn forget_peer(&mut self, tag: u64) {
        self.peers.remove(PeerKey::from_tag(tag));
    }
}

/// Who sent a datagram, if that can be somebody, and is admitted. The error holds the peer where it cannot be answered.
fn source(active: &Active, from: Sender) -> Result<Source, (Dropped, Option<PeerAddress>)> {
    // The kernel tells no more than the primary group of whoever sends a datagram.
    let admitted = |peer| match admission::admits(&active.rules, peer, Vec::new) {
        true => Ok(()),
        false => Err((Dropped::NotAllowed, None)),
    };
    match from {
        Sender::Inet { peer, local } => {
            if is_nobody(peer) || is_ourselves(&active.socket, peer, local) {
                return Err((Dropped::BadAddress, None));
            }
            admitted(PeerAddress::Inet(peer))?;
            let trusted = active.rules.trusted.iter().any(|network| network.contains(&peer.ip()));
            Ok(Source { name: PeerName::Inet(peer), peer: PeerAddress::Inet(peer), local, trusted })
        }
        Sender::Unix { name, credentials } => {
            let Some(credentials) = credentials else { return Err((Dropped::NoAddress, None)) };
            let peer = PeerAddress::Unix(credentials);
            admitted(peer)?;
            let Some(name) = name else { return Err((Dropped::NoAddress, Some(peer))) };
            // The kernel vouches for the address: whoever sends from it receives there.
            Ok(Source { name: PeerName::Unix(name), peer, local: None, trusted: true })
        }
    }
}

/// Whether no single peer can have this address, or none that we may talk to.
fn is_nobody(peer: SocketAddr) -> bool {
    let ip = peer.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    peer.port() == 0 || ip.is_multicast() || ip.is_unspecified() || broadcast || REFLECTORS.contains(&peer.port())
}

/// Whether it is the listener's own address.
fn is_ourselves(socket: &Socket, peer: SocketAddr, local: Option<LocalAddress>) -> bool {
    let Address::Inet { host: Host::Ip(ip), port, .. } = socket.address() else { return false };
    let own = ip.to_canonical() == peer.ip() || local.is_some_and(|local| local.ip == peer.ip());
    *port == peer.port() && (own || (ip.is_unspecified() && peer.ip().is_loopback()))
}

/// Whom the limits count an address for.
pub(in crate::daemon) fn limited(name: &PeerName) -> Cow<'_, PeerName> {
    match name {
        PeerName::Inet(SocketAddr::V6(v6)) => {
            let network = v6.ip().to_bits() & !u128::from(u64::MAX);
            Cow::Owned(PeerName::Inet(SocketAddr::new(Ipv6Addr::from_bits(network).into(), 0)))
        }
        PeerName::Inet(SocketAddr::V4(v4)) => Cow::Owned(PeerName::Inet(SocketAddr::new((*v4.ip()).into(), 0))),
        unix => Cow::Borrowed(unix),
    }
}
