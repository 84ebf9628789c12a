//! How the daemon receives and sends the datagrams of native clients.

use std::time::Duration;

use upcall_engine::{DatagramSource, Endpoint, EndpointId, ExpectedProtocol, Intake, Registration, Verdict};
use upcall_wire::address::{Peer, Transport};
use upcall_wire::frame::datagram::{Envelope, OVERHEAD};
use upcall_wire::frame::{ErrorFrame, Frame, Hello, kind};
use upcall_wire::reason::Reason;

use super::peer::NativePeer;
use crate::simulation::{LEASE, Simulation};

/// At most 64 datagrams may be unacknowledged, and one more after a timeout.
const WINDOW: u32 = 65;

/// The shortest retransmission timeout.
const MIN_TIMEOUT: Duration = Duration::from_millis(200);

impl Simulation {
    /// Reads what has arrived, unless the intake of the engine is full.
    pub(crate) fn read_datagrams(&mut self) {
        let arrived = self.native.up.take_arrived(self.now);
        self.native.socket.extend(arrived);
        while self.engine.intake() != Intake::Full
            && let Some((address, bytes)) = self.native.socket.pop_front()
        {
            match Envelope::split(&bytes) {
                Some((envelope, frames)) => self.handle_datagram(address, envelope.key, frames),
                None => {
                    if let Ok(Frame::Hello(hello)) = Frame::take(&mut &bytes[..]) {
                        self.handle_datagram_hello(address, &hello, bytes.len());
                    }
                }
            }
            self.handle_events();
        }
    }

    fn handle_datagram(&mut self, address: u64, key: u64, frames: &[u8]) {
        let now = self.now();
        let Some(id) = self.engine.endpoint_by_key(key) else { return };
        let tag = self.engine.endpoint(id).unwrap().tag;
        if self.native.peers[&tag].address != address && !self.verify_move(address, tag, frames) {
            return;
        }
        self.engine.renew(now, id);
        let peer = self.native.peers.get_mut(&tag).unwrap();
        peer.lease = now.boot + LEASE;
        (peer.burst_start, peer.burst_datagrams) = (now.time, 0);
        let mut rest = frames;
        while !rest.is_empty() && self.engine.endpoint(id).is_some() {
            match Frame::take(&mut rest).expect("clients send valid frames") {
                frame @ Frame::Bye(_) => {
                    self.engine.handle_frame(now, id, &frame);
                    self.engine.connection_lost(now, id, Reason::Closed);
                }
                frame => self.native_frame(id, &frame),
            }
        }
    }

    fn source(address: &u64, trusted: bool) -> DatagramSource<'_, u64> {
        DatagramSource { listener: 2, address, source: address, trusted, registered: false }
    }

    /// Whether the client has proved that a datagram from a new address is its own. If so, its endpoint moves there.
    fn verify_move(&mut self, address: u64, tag: u64, frames: &[u8]) -> bool {
        let Ok(Frame::Ping { nonce, cookie }) = Frame::take(&mut &frames[..]) else { return false };
        let source = Simulation::source(&address, false);
        match self.native.gate.prove(self.now, &source, cookie, frames.len() + OVERHEAD) {
            Verdict::Join => {
                self.native.peers.get_mut(&tag).unwrap().address = address;
                self.native.counts.moves += 1;
                true
            }
            Verdict::Challenge => {
                let cookie = self.native.gate.native_cookie(self.now, &source);
                self.send_frame(address, &Frame::Retry { nonce, cookie });
                false
            }
            _ => false,
        }
    }

    fn send_frame(&mut self, address: u64, frame: &Frame<'_>) {
        self.native.down.send(&mut self.rng, self.now, address, &frame.to_vec());
    }

    fn handle_datagram_hello(&mut self, address: u64, hello: &Hello<'_>, bytes: usize) {
        let now = self.now();
        let source = Simulation::source(&address, address.is_multiple_of(2));
        match self.native.gate.prove(now.time, &source, hello.cookie, bytes) {
            Verdict::Join => {}
            Verdict::Challenge => {
                let cookie = self.native.gate.native_cookie(now.time, &source);
                return self.send_frame(address, &Frame::Retry { nonce: hello.nonce, cookie });
            }
            _ => return,
        }
        if let Some(endpoint) =
            self.native.peers.values().find(|peer| peer.address == address).map(|peer| peer.endpoint)
        {
            match self.engine.endpoint(endpoint).and_then(Endpoint::welcome).copied() {
                Some(welcome) if welcome.nonce == hello.nonce => {
                    return self.send_frame(address, &Frame::Welcome(welcome));
                }
                _ => {
                    self.engine.connection_lost(now, endpoint, Reason::Reset);
                    self.handle_events();
                }
            }
        }
        let tag = self.native.new_tag();
        let registration = Registration {
            protocol: ExpectedProtocol::Native,
            tag,
            listener: 2,
            transport: Transport::Udp,
            peer: Peer::inet(([127, 0, 0, 3], (address % 60_000) as u16 + 1).into()),
            receives: true,
            max_per_listener: None,
            max_per_source: None,
        };
        let superseded = hello.resume.as_ref().and_then(|resume| self.engine.superseded_by(resume, registration.peer));
        let Ok(endpoint) = self.engine.register_superseding(now, registration, superseded) else { return };
        let peer = NativePeer {
            endpoint,
            address,
            lease: now.boot + LEASE,
            blocked: false,
            burst_start: now.time,
            burst_datagrams: 0,
        };
        self.native.peers.insert(tag, peer);
        let welcome = self.engine.handle_hello(now, endpoint, hello, self.native.terms());
        self.note_hello(endpoint, hello, welcome.as_ref().ok());
        match welcome {
            Ok(welcome) => self.send_frame(address, &Frame::Welcome(welcome)),
            Err(violation) => {
                self.engine.connection_lost(now, endpoint, Reason::Protocol);
                let (code, text) = (violation.code, violation.text);
                self.send_frame(
                    address,
                    &Frame::Error(ErrorFrame { code, about: kind::HELLO, reference: hello.nonce, text }),
                );
            }
        }
        self.handle_events();
    }

    /// Sends one BYE to a client whose endpoint left before everything was acknowledged, unless it seems to have
    /// vanished.
    pub(crate) fn send_farewell(&mut self, address: u64, endpoint: &Endpoint, reason: Reason) {
        if let Some(welcome) = endpoint.welcome().filter(|_| reason.is_announced() || reason == Reason::Closed) {
            let mut bye = Vec::new();
            Envelope { key: welcome.key, number: 0 }.write(&mut bye);
            Frame::Bye(reason.name()).write(&mut bye);
            let now = self.now().time;
            self.native.down.send(&mut self.rng, now, address, &bye);
        }
    }

    pub(crate) fn flush_peer(&mut self, id: EndpointId, tag: u64) {
        let now = self.now();
        let max = self.native.max_datagram;
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let Some(number) = self.engine.next_datagram(now, id, max, &mut bytes) else { return };
            check_datagram(&bytes, max);
            let full = !self.all_read && self.rng.u8(..32) == 0;
            let native = &mut self.native;
            let Some(peer) = native.peers.get_mut(&tag) else { return };
            if full {
                self.engine.datagram_unsent(id, number);
                self.engine.blocked(now, id);
                peer.blocked = true;
                native.counts.unsent += 1;
                return;
            }
            if bytes.len() > native.mtu {
                self.engine.datagram_oversize(id, number);
                continue;
            }
            if now.time.since(peer.burst_start) >= MIN_TIMEOUT {
                (peer.burst_start, peer.burst_datagrams) = (now.time, 0);
            }
            peer.burst_datagrams += u32::from(number > 0);
            assert!(peer.burst_datagrams <= WINDOW, "too many datagrams are in flight");
            native.down.send(&mut self.rng, now.time, peer.address, &bytes);
        }
    }
}

/// Checks that a datagram is at most `max` bytes long, and at most 1,200 where frames share it.
fn check_datagram(bytes: &[u8], max: usize) {
    assert!(bytes.len() <= max, "{} bytes in a datagram", bytes.len());
    let (_, mut frames) = Envelope::split(bytes).expect("an envelope");
    let mut count = 0;
    while !frames.is_empty() {
        Frame::take(&mut frames).expect("whole frames");
        count += 1;
    }
    assert!(count > 0 && (count == 1 || bytes.len() <= 1_200), "{count} frames share {} bytes", bytes.len());
}
