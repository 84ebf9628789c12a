//! Native datagrams come in: HELLO, the proof of an address, and what the registered say.

use crate::config::Level;
use crate::daemon::datagrams::peers::{Peer, PeerKey, Route};
use crate::daemon::datagrams::{Source, limited};
use crate::daemon::listeners::admission;
use crate::daemon::listeners::{Active, Socket};
use crate::daemon::log::{debug, info};
use crate::daemon::server::Server;
use crate::daemon::streams::native::{authenticate, terms};
use crate::daemon::streams::read::log_input;
use crate::net::datagram::Destination;
use upcall_engine::{
    DatagramSource, Dropped, Endpoint, EndpointId, ExpectedProtocol, ListenerNumber, Now, Registration, Verdict,
};
use upcall_wire::frame::datagram::Envelope;
use upcall_wire::frame::{Code, ErrorFrame, Frame, Hello, Violation, kind};
use upcall_wire::reason::{Reason, Refusal};

impl Server {
    /// Takes a datagram that begins as native ones do.
    pub(in crate::daemon) fn native_datagram(
        &mut self,
        now: Now,
        number: ListenerNumber,
        source: &Source,
        bytes: &[u8],
    ) -> Result<(), Dropped> {
        if let Some((envelope, frames)) = Envelope::split(bytes) {
            return self.enveloped(now, number, source, &envelope, frames);
        }
        // Nothing else than a HELLO comes without an envelope, and nothing else is answered: an answer never is.
        match Frame::take(&mut &bytes[..]) {
            Ok(Frame::Hello(hello)) => self.datagram_hello(now, number, source, &hello, bytes.len()),
            Err(violation) if violation.about == kind::HELLO => {
                self.refuse_hello(now, number, source, &violation, bytes.len());
                Err(Dropped::Protocol)
            }
            _ => Err(Dropped::Protocol),
        }
    }

    /// Says what is wrong with a HELLO that is none, to an address that has proved nothing: the answer is no longer than the
    /// question.
    fn refuse_hello(&mut self, now: Now, number: ListenerNumber, source: &Source, violation: &Violation, bytes: usize) {
        let Violation { code, about, reference, text } = *violation;
        let error = |text| Frame::Error(ErrorFrame { code, about, reference, text });
        let Some(room) = bytes.checked_sub(error("").to_vec().len()) else { return };
        let limited = limited(&source.name);
        let (address, source_of_many) = (&source.name, &limited);
        let claim = DatagramSource {
            listener: number,
            address,
            source: source_of_many,
            trusted: source.trusted,
            registered: false,
        };
        if self.gate.allows_answer(now.time, &claim) {
            self.say(number, source, &error(text.get(..room).unwrap_or(text)));
        }
    }

    /// What a registered endpoint says.
    fn enveloped(
        &mut self,
        now: Now,
        number: ListenerNumber,
        source: &Source,
        envelope: &Envelope,
        frames: &[u8],
    ) -> Result<(), Dropped> {
        let known = self.engine.endpoint_by_key(envelope.key).and_then(|id| {
            let key = PeerKey::from_tag(self.engine.endpoint(id)?.tag);
            let peer = self.peers.get(key).filter(|peer| peer.listener == number)?;
            let is_its_own = peer.name == source.name && peer.is_of(source.peer);
            Some((id, key, is_its_own.then(|| peer.route.is_current(source.local))))
        });
        let endpoint = match known {
            Some((id, _, Some(true))) => id,
            Some((id, key, Some(false))) => {
                self.renew_route(key, source)?;
                id
            }
            _ => {
                if let Some((_, peer)) = self.peers.find(number, &source.name)
                    && !peer.is_of(source.peer)
                {
                    let former = peer.endpoint;
                    self.oust(now, former);
                }
                let (id, key, _) = known.ok_or(Dropped::BadKey)?;
                self.moves_here(now, number, source, key, frames)?;
                id
            }
        };
        self.engine.renew(now, endpoint);
        let mut rest = frames;
        while !rest.is_empty() && self.engine.endpoint(endpoint).is_some() {
            match Frame::take(&mut rest) {
                Ok(frame @ Frame::Bye(_)) => {
                    // It is told so at once, and nothing more is due to it.
                    self.engine.handle_frame(now, endpoint, &frame);
                    self.engine.connection_lost(now, endpoint, Reason::Closed);
                    return Ok(());
                }
                // It is sent again.
                Ok(Frame::Send(_)) if !self.allows_send(now, number, source) => return Err(Dropped::RateLimited),
                Ok(frame) => self.enveloped_frame(now, endpoint, &frame),
                Err(violation) => {
                    self.engine.handle_violation(now, endpoint, &violation);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether a source may send one more input now: nothing else slows a sender of datagrams down.
    fn allows_send(&mut self, now: Now, number: ListenerNumber, source: &Source) -> bool {
        let limited = limited(&source.name);
        let (address, trusted) = (&source.name, source.trusted);
        let claim = DatagramSource { listener: number, address, source: &limited, trusted, registered: true };
        self.gate.allows_input(now.time, &claim)
    }

    fn enveloped_frame(&mut self, now: Now, endpoint: EndpointId, frame: &Frame<'_>) {
        if let (Some(accepted), Frame::Send(send)) = (self.engine.handle_frame(now, endpoint, frame), frame)
            && self.log_inputs
            && self.log.enabled(Level::Info)
        {
            let id = self.engine.endpoint(endpoint).map_or(0, |endpoint| endpoint.number);
            log_input(&mut self.log, id, send.payload, accepted);
        }
    }

    /// Says BYE, once, to a native peer that has left without having acknowledged everything; to others it says nothing.
    pub(in crate::daemon) fn bid_farewell(&mut self, endpoint: &Endpoint, reason: Reason) {
        if let Some(welcome) = endpoint.welcome() {
            let mut bytes = Vec::new();
            Envelope { key: welcome.key, number: 0 }.write(&mut bytes);
            Frame::Bye(reason.name()).write(&mut bytes);
            self.say_to_peer(endpoint.listener, PeerKey::from_tag(endpoint.tag), &bytes);
        }
    }

    /// The right key comes from another address: a PING from there moves the session, once that address is proved.
    fn moves_here(
        &mut self,
        now: Now,
        number: ListenerNumber,
        source: &Source,
        key: PeerKey,
        frames: &[u8],
    ) -> Result<(), Dropped> {
        let Route::Inet { .. } = self.route(source)? else { return Err(Dropped::BadKey) };
        let Ok(Frame::Ping { nonce, cookie }) = Frame::take(&mut &frames[..]) else { return Err(Dropped::BadKey) };
        let limited = limited(&source.name);
        // Whoever is trusted has to prove it, too: only so it is known that it is not a datagram that came late.
        let claim = DatagramSource {
            listener: number,
            address: &source.name,
            source: &limited,
            trusted: false,
            registered: false,
        };
        match self.gate.prove(now.time, &claim, cookie, frames.len() + upcall_wire::frame::datagram::OVERHEAD) {
            Verdict::Join => {
                let route = self.route(source)?;
                debug!(self.log, "a session moves to {}", source.peer);
                self.peers.rename(key, source.name.clone(), route);
                if let Some(peer) = self.peers.get(key) {
                    self.engine.set_peer(peer.endpoint, source.peer);
                }
                Ok(())
            }
            Verdict::Challenge => {
                let cookie = self.gate.native_cookie(now.time, &claim);
                self.say(number, source, &Frame::Retry { nonce, cookie });
                Err(Dropped::BadKey)
            }
            _ => Err(Dropped::RateLimited),
        }
    }

    fn datagram_hello(
        &mut self,
        now: Now,
        number: ListenerNumber,
        source: &Source,
        hello: &Hello<'_>,
        bytes: usize,
    ) -> Result<(), Dropped> {
        let limited = limited(&source.name);
        let claim = DatagramSource {
            listener: number,
            address: &source.name,
            source: &limited,
            trusted: source.trusted,
            registered: false,
        };
        match self.gate.prove(now.time, &claim, hello.cookie, bytes) {
            Verdict::Join => {}
            Verdict::Challenge => {
                let cookie = self.gate.native_cookie(now.time, &claim);
                self.say(number, source, &Frame::Retry { nonce: hello.nonce, cookie });
                return Ok(());
            }
            Verdict::Drop(dropped) => return Err(dropped),
            Verdict::Bye | Verdict::Input => return Err(Dropped::Protocol),
        }
        if let Some((_, peer)) = self.peers.find(number, &source.name) {
            let (endpoint, is_its_own) = (peer.endpoint, peer.is_of(source.peer));
            match self.engine.endpoint(endpoint).and_then(Endpoint::welcome).copied() {
                // Our answer was lost.
                Some(welcome) if is_its_own && welcome.nonce == hello.nonce => {
                    self.say(number, source, &Frame::Welcome(welcome));
                    return Ok(());
                }
                // Whoever was there has begun anew.
                _ => self.oust(now, endpoint),
            }
        }
        if let Err(violation) = self.welcome(now, number, source, hello) {
            let Violation { code, about, text, .. } = violation;
            self.say(number, source, &Frame::Error(ErrorFrame { code, about, reference: hello.nonce, text }));
        }
        Ok(())
    }

    /// Registers a native peer, and tells it so.
    fn welcome(
        &mut self,
        now: Now,
        number: ListenerNumber,
        source: &Source,
        hello: &Hello<'_>,
    ) -> Result<(), Violation> {
        let wrong = |code, text| Violation { code, about: kind::HELLO, reference: hello.nonce, text };
        let Ok(route) = self.route(source) else { return Err(wrong(Code::Refused, Refusal::NotAllowed.name())) };
        let Some(Active { rules, socket, .. }) = self.listeners.get(&number) else { return Ok(()) };
        authenticate(rules, hello)?;
        if self.drain.is_some() {
            return Err(wrong(Code::Refused, Refusal::Shutdown.name()));
        }
        let (transport, peer) = (socket.address().transport(), source.peer);
        let terms = terms(rules, peer);
        let (max_per_listener, max_per_source) = (rules.max_endpoints, admission::max_per_source(rules, peer));
        let endpoint = EndpointId::default();
        let name = source.name.clone();
        let key = self.peers.insert(Peer { listener: number, name, route, native: true, endpoint });
        let (tag, protocol) = (key.tag(), ExpectedProtocol::Native);
        let receives = terms.receives;
        let who = Registration {
            protocol,
            tag,
            listener: number,
            transport,
            peer,
            receives,
            max_per_listener,
            max_per_source,
        };
        let over = hello.resume.as_ref().and_then(|resume| self.engine.superseded_by(resume, peer));
        let registered = self.engine.register_superseding(now, who, over);
        let endpoint = registered.map_err(|refusal| {
            self.engine.counters_mut().count_refused(refusal);
            self.peers.remove(key);
            debug!(self.log, peer = peer, reason = refusal; "refused {peer}: {refusal}");
            wrong(Code::Refused, refusal.name())
        })?;
        if let Some(peer) = self.peers.get_mut(key) {
            peer.endpoint = endpoint;
        }
        match self.engine.handle_hello(now, endpoint, hello, terms) {
            Ok(welcome) => {
                self.say(number, source, &Frame::Welcome(welcome));
                let (name, count) = (&self.listeners[&number].rules.name, self.engine.registered());
                let id = welcome.id;
                info!(
                    self.log, endpoint = id, listener = name, peer = peer;
                    "#{id} joined from {peer} on {name}; {count} registered"
                );
                self.log_welcome(endpoint, hello);
                Ok(())
            }
            Err(violation) => {
                self.engine.connection_lost(now, endpoint, Reason::Protocol);
                self.see_off(now);
                Err(violation)
            }
        }
    }

    /// One frame without an envelope, to somebody who has said HELLO. Whatever becomes of it: it will be asked for again.
    fn say(&mut self, number: ListenerNumber, source: &Source, frame: &Frame<'_>) {
        if let Ok(route) = self.route(source) {
            self.say_over(number, &route, &frame.to_vec());
        }
    }

    fn say_to_peer(&mut self, number: ListenerNumber, key: PeerKey, bytes: &[u8]) {
        let Some(Active { socket: Socket::Datagrams(socket), .. }) = self.listeners.get(&number) else { return };
        let Some(peer) = self.peers.get(key) else { return };
        let (destination, local) = peer.route.destination();
        let mut batch = socket.batch(&mut self.outbox);
        batch.push(destination, local, [std::io::IoSlice::new(bytes)], None);
        let _ = batch.send();
    }

    fn say_over(&mut self, number: ListenerNumber, route: &Route, bytes: &[u8]) {
        let Some(Active { socket: Socket::Datagrams(socket), .. }) = self.listeners.get(&number) else { return };
        let (destination, local): (Destination<'_>, _) = route.destination();
        let mut batch = socket.batch(&mut self.outbox);
        batch.push(destination, local, [std::io::IoSlice::new(bytes)], None);
        let _ = batch.send();
    }
}
