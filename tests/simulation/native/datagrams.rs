//! Datagrams, as the daemon receives and sends them.

use std::time::Duration;

use upcall_engine::{DatagramSource, Endpoint, EndpointId, ExpectedProtocol, Registration, Time, Verdict};
use upcall_wire::address::{Peer as Address, Transport};
use upcall_wire::frame::datagram::{Envelope, OVERHEAD};
use upcall_wire::frame::{ErrorFrame, Frame, Hello, kind};
use upcall_wire::reason::Reason;

use crate::simulation::{LEASE, World};

/// The most that may be under way to an endpoint, and one more after a timeout.
const WINDOW: u32 = 65;

/// No timeout is shorter.
const TIMEOUT: Duration = Duration::from_millis(200);

/// A datagram client, as the daemon knows it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) endpoint: EndpointId,
    pub(crate) address: u64,
    pub(crate) lease: Time,
    pub(crate) blocked: bool,
    /// Since when nothing has come from it, or timed out, and how many datagrams were sent that it has to acknowledge.
    burst: (Time, u32),
}

impl World {
    /// What has arrived is read, as far as the engine takes it.
    pub(crate) fn read_datagrams(&mut self) {
        let arrived = self.natives.up.arrived(self.now);
        self.natives.socket.extend(arrived);
        while self.engine.intake() != upcall_engine::Intake::Full
            && let Some((address, bytes)) = self.natives.socket.pop_front()
        {
            match Envelope::split(&bytes) {
                Some((envelope, frames)) => self.enveloped(address, envelope.key, frames),
                None => {
                    if let Ok(Frame::Hello(hello)) = Frame::take(&mut &bytes[..]) {
                        self.datagram_hello(address, &hello, bytes.len());
                    }
                }
            }
            self.events();
        }
    }

    fn enveloped(&mut self, address: u64, key: u64, frames: &[u8]) {
        let now = self.now();
        let Some(id) = self.engine.endpoint_by_key(key) else { return };
        let tag = self.engine.endpoint(id).unwrap().tag;
        if self.natives.peers[&tag].address != address && !self.moves_here(address, tag, frames) {
            return;
        }
        self.engine.renew(now, id);
        let peer = self.natives.peers.get_mut(&tag).unwrap();
        peer.lease = now.boot + LEASE;
        peer.burst = (now.time, 0);
        let mut rest = frames;
        while !rest.is_empty() && self.engine.endpoint(id).is_some() {
            match Frame::take(&mut rest).expect("clients say nothing wrong") {
                frame @ Frame::Bye(_) => {
                    self.engine.handle_frame(now, id, &frame);
                    self.engine.connection_lost(now, id, Reason::Closed);
                }
                frame => self.native_frame(id, &frame),
            }
        }
    }

    fn claim(address: &u64, trusted: bool) -> DatagramSource<'_, u64> {
        DatagramSource { listener: 2, address, source: address, trusted, registered: false }
    }

    fn moves_here(&mut self, address: u64, tag: u64, frames: &[u8]) -> bool {
        let Ok(Frame::Ping { nonce, cookie }) = Frame::take(&mut &frames[..]) else { return false };
        let claim = World::claim(&address, false);
        match self.natives.gate.prove(self.now, &claim, cookie, frames.len() + OVERHEAD) {
            Verdict::Join => {
                self.natives.peers.get_mut(&tag).unwrap().address = address;
                self.natives.figures.moves += 1;
                true
            }
            Verdict::Challenge => {
                let cookie = self.natives.gate.native_cookie(self.now, &claim);
                self.say(address, &Frame::Retry { nonce, cookie });
                false
            }
            _ => false,
        }
    }

    fn say(&mut self, address: u64, frame: &Frame<'_>) {
        self.natives.down.send(&mut self.rng, self.now, address, &frame.to_vec());
    }

    fn datagram_hello(&mut self, address: u64, hello: &Hello<'_>, bytes: usize) {
        let now = self.now();
        let claim = World::claim(&address, address.is_multiple_of(2));
        match self.natives.gate.prove(now.time, &claim, hello.cookie, bytes) {
            Verdict::Join => {}
            Verdict::Challenge => {
                let cookie = self.natives.gate.native_cookie(now.time, &claim);
                return self.say(address, &Frame::Retry { nonce: hello.nonce, cookie });
            }
            _ => return,
        }
        if let Some(endpoint) =
            self.natives.peers.values().find(|peer| peer.address == address).map(|peer| peer.endpoint)
        {
            match self.engine.endpoint(endpoint).and_then(Endpoint::welcome).copied() {
                Some(welcome) if welcome.nonce == hello.nonce => return self.say(address, &Frame::Welcome(welcome)),
                _ => {
                    self.engine.connection_lost(now, endpoint, Reason::Reset);
                    self.events();
                }
            }
        }
        let tag = self.natives.tag();
        let who = Registration {
            protocol: ExpectedProtocol::Native,
            tag,
            listener: 2,
            transport: Transport::Udp,
            peer: Address::inet(([127, 0, 0, 3], (address % 60_000) as u16 + 1).into()),
            receives: true,
            max_per_listener: None,
            max_per_source: None,
        };
        let over = hello.resume.as_ref().and_then(|resume| self.engine.superseded_by(resume, who.peer));
        let Ok(endpoint) = self.engine.register_superseding(now, who, over) else { return };
        let peer = Peer { endpoint, address, lease: now.boot + LEASE, blocked: false, burst: (now.time, 0) };
        self.natives.peers.insert(tag, peer);
        let welcome = self.engine.handle_hello(now, endpoint, hello, self.natives.terms());
        self.note_hello(endpoint, hello, welcome.as_ref().ok());
        match welcome {
            Ok(welcome) => self.say(address, &Frame::Welcome(welcome)),
            Err(violation) => {
                self.engine.connection_lost(now, endpoint, Reason::Protocol);
                let (code, text) = (violation.code, violation.text);
                self.say(address, &Frame::Error(ErrorFrame { code, about: kind::HELLO, reference: hello.nonce, text }));
            }
        }
        self.events();
    }

    /// One that has left without having acknowledged everything hears so once, unless it seems to be gone.
    pub(crate) fn bid_farewell(&mut self, address: u64, endpoint: &Endpoint, reason: Reason) {
        if let Some(welcome) = endpoint.welcome().filter(|_| reason.is_announced() || reason == Reason::Closed) {
            let mut bye = Vec::new();
            Envelope { key: welcome.key, number: 0 }.write(&mut bye);
            Frame::Bye(reason.name()).write(&mut bye);
            let now = self.now().time;
            self.natives.down.send(&mut self.rng, now, address, &bye);
        }
    }

    pub(crate) fn flush_peer(&mut self, id: EndpointId, tag: u64) {
        let now = self.now();
        let max = self.natives.max_datagram;
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let Some(number) = self.engine.next_datagram(now, id, max, &mut bytes) else { return };
            check_datagram(&bytes, max);
            let full = !self.everybody_reads && self.rng.u8(..32) == 0;
            let natives = &mut self.natives;
            let Some(peer) = natives.peers.get_mut(&tag) else { return };
            if full {
                self.engine.datagram_unsent(id, number);
                self.engine.blocked(now, id);
                peer.blocked = true;
                natives.figures.unsent += 1;
                return;
            }
            if bytes.len() > natives.mtu {
                self.engine.datagram_oversize(id, number);
                continue;
            }
            if now.time.since(peer.burst.0) >= TIMEOUT {
                peer.burst = (now.time, 0);
            }
            peer.burst.1 += u32::from(number > 0);
            assert!(peer.burst.1 <= WINDOW, "too many datagrams are under way");
            natives.down.send(&mut self.rng, now.time, peer.address, &bytes);
        }
    }
}

/// A datagram is no larger than it may be, and shared only up to 1,200 bytes.
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
