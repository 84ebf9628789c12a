//! Incoming native datagrams: HELLO, the proof of an address, and the frames of registered peers.

use upcall_engine::{DatagramSource, Dropped, Endpoint, ExpectedProtocol, Now, Verdict};
use upcall_wire::frame::datagram::{self, Envelope};
use upcall_wire::frame::{Code, ErrorFrame, Frame, Hello, Violation, kind};
use upcall_wire::reason::{Reason, Refusal};

use super::Datagrams;
use super::peers::{Route, key_of};
use super::register::NotRegistered;
use super::source::PeerSource;
use crate::daemon::context::Context;
use crate::daemon::listeners::{Listeners, authenticate, terms};
use crate::daemon::log::debug;
use crate::daemon::tokens::PeerKey;
use crate::daemon::traffic;

impl Datagrams {
    /// Handles a datagram whose first byte is that of a native one.
    pub(super) fn native_datagram(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        now: Now,
        source: &PeerSource,
        bytes: &[u8],
    ) -> Result<(), Dropped> {
        if let Some((envelope, frames)) = Envelope::split(bytes) {
            return self.enveloped(context, listeners, now, source, &envelope, frames);
        }
        // Only a HELLO has no envelope. Nothing else without an envelope is answered, so that an answer of the daemon
        // that is reflected to it never causes another.
        match Frame::take(&mut &bytes[..]) {
            Ok(Frame::Hello(hello)) => self.hello(context, listeners, now, source, &hello, bytes.len()),
            Err(violation) if violation.about == kind::HELLO => {
                self.refuse_hello(context, listeners, now, source, &violation, bytes.len());
                Err(Dropped::Protocol)
            }
            _ => Err(Dropped::Protocol),
        }
    }

    /// Answers a malformed HELLO. Its source address is not proved, so the answer is never longer than the HELLO.
    fn refuse_hello(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        now: Now,
        source: &PeerSource,
        violation: &Violation,
        bytes: usize,
    ) {
        let Violation { code, about, reference, text } = *violation;
        let error = |text| Frame::Error(ErrorFrame { code, about, reference, text });
        let Some(room) = bytes.checked_sub(error("").to_vec().len()) else { return };
        if self.gate.allows_answer(now.time, &source.claim(false)) {
            let frame = error(text.get(..room).unwrap_or(text));
            self.answer_frame(&mut context.logger, listeners, source, &frame);
        }
    }

    /// Handles the frames of a registered endpoint.
    fn enveloped(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        now: Now,
        source: &PeerSource,
        envelope: &Envelope,
        frames: &[u8],
    ) -> Result<(), Dropped> {
        let known = context.engine.endpoint_by_key(envelope.key).and_then(|id| {
            let key = key_of(&context.engine, id)?;
            let peer = self.peers.get(key).filter(|peer| peer.listener == source.listener)?;
            Some((id, key, peer.name == source.name && peer.is_of(source.peer)))
        });
        let endpoint = match known {
            Some((id, key, true)) => {
                self.update_route(context, key, source)?;
                id
            }
            _ => {
                if let Some((_, peer)) = self.peers.find(source.listener, &source.name)
                    && !peer.is_of(source.peer)
                {
                    let former = peer.endpoint;
                    self.replace(context, listeners, now, former);
                }
                let (id, key, _) = known.ok_or(Dropped::BadKey)?;
                self.move_session(context, listeners, now, source, key, frames)?;
                id
            }
        };
        context.engine.renew(now, endpoint);
        let mut rest = frames;
        while !rest.is_empty() && context.engine.endpoint(endpoint).is_some() {
            match Frame::take(&mut rest) {
                Ok(frame @ Frame::Bye(_)) => {
                    // The BYE is answered now. Nothing else is sent to the peer.
                    context.engine.handle_frame(now, endpoint, &frame);
                    context.engine.connection_lost(now, endpoint, Reason::Closed);
                    return Ok(());
                }
                // No other mechanism limits the rate of a datagram sender. The peer retransmits the SEND.
                Ok(Frame::Send(_)) if !self.gate.allows_input(now.time, &source.claim(true)) => {
                    return Err(Dropped::RateLimited);
                }
                Ok(frame) => context.handle_frame(now, endpoint, &frame),
                Err(violation) => {
                    context.engine.handle_violation(now, endpoint, &violation);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Handles a datagram with a valid key from another address than the session's. A PING moves the session there once
    /// the new address is proved.
    fn move_session(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        now: Now,
        source: &PeerSource,
        key: PeerKey,
        frames: &[u8],
    ) -> Result<(), Dropped> {
        let route @ Route::Inet { .. } = source.route(&mut context.logger)? else { return Err(Dropped::BadKey) };
        let Ok(Frame::Ping { nonce, cookie }) = Frame::take(&mut &frames[..]) else { return Err(Dropped::BadKey) };
        // Trusted addresses must be proved too: the datagram could be an old one that arrives late.
        let claim = DatagramSource { trusted: false, ..source.claim(false) };
        match self.gate.prove(now.time, &claim, cookie, frames.len() + datagram::OVERHEAD) {
            Verdict::Join => {
                debug!(context.logger, "a session moves to {}", source.peer);
                self.peers.rename(key, source.name.clone(), route);
                if let Some(peer) = self.peers.get(key) {
                    context.engine.set_peer(peer.endpoint, source.peer);
                }
                Ok(())
            }
            Verdict::Challenge => {
                let cookie = self.gate.native_cookie(now.time, &claim);
                self.answer_frame(&mut context.logger, listeners, source, &Frame::Retry { nonce, cookie });
                Err(Dropped::BadKey)
            }
            _ => Err(Dropped::RateLimited),
        }
    }

    fn hello(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        now: Now,
        source: &PeerSource,
        hello: &Hello<'_>,
        bytes: usize,
    ) -> Result<(), Dropped> {
        let claim = source.claim(false);
        match self.gate.prove(now.time, &claim, hello.cookie, bytes) {
            Verdict::Join => {}
            Verdict::Challenge => {
                let cookie = self.gate.native_cookie(now.time, &claim);
                let retry = Frame::Retry { nonce: hello.nonce, cookie };
                self.answer_frame(&mut context.logger, listeners, source, &retry);
                return Ok(());
            }
            Verdict::Drop(dropped) => return Err(dropped),
            Verdict::Bye | Verdict::Input => return Err(Dropped::Protocol),
        }
        if let Some((_, peer)) = self.peers.find(source.listener, &source.name) {
            let (endpoint, is_its_own) = (peer.endpoint, peer.is_of(source.peer));
            match context.engine.endpoint(endpoint).and_then(Endpoint::welcome).copied() {
                // The WELCOME for the same HELLO was lost: send it again.
                Some(welcome) if is_its_own && welcome.nonce == hello.nonce => {
                    self.answer_frame(&mut context.logger, listeners, source, &Frame::Welcome(welcome));
                    return Ok(());
                }
                // The peer starts a new session, or another peer has its address now.
                _ => self.replace(context, listeners, now, endpoint),
            }
        }
        if let Err(violation) = self.welcome(context, listeners, now, source, hello) {
            let Violation { code, about, text, .. } = violation;
            let error = Frame::Error(ErrorFrame { code, about, reference: hello.nonce, text });
            self.answer_frame(&mut context.logger, listeners, source, &error);
        }
        Ok(())
    }

    /// Registers a native peer and sends its WELCOME. On an error, the caller answers the HELLO with the violation.
    fn welcome(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        now: Now,
        source: &PeerSource,
        hello: &Hello<'_>,
    ) -> Result<(), Violation> {
        let refused = |refusal: Refusal| {
            let text = refusal.name();
            Violation { code: Code::Refused, about: kind::HELLO, reference: hello.nonce, text }
        };
        let Some(listener) = listeners.get(source.listener) else { return Ok(()) };
        authenticate(&listener.rules, hello)?;
        if context.drain.is_some() {
            return Err(refused(Refusal::Shutdown));
        }
        let old = hello.resume.as_ref().and_then(|resume| context.engine.superseded_by(resume, source.peer));
        let registered = self.register(context, listeners, now, source, ExpectedProtocol::Native, old);
        let endpoint = registered.map_err(|error| match error {
            NotRegistered::NoRoute(_) => refused(Refusal::NotAllowed),
            NotRegistered::Refused(refusal) => refused(refusal),
        })?;
        match context.engine.handle_hello(now, endpoint, hello, terms(&listener.rules, source.peer)) {
            Ok(welcome) => {
                self.answer_frame(&mut context.logger, listeners, source, &Frame::Welcome(welcome));
                traffic::log_joined(context, listeners, endpoint);
                traffic::log_welcome(context, listeners, endpoint, hello);
                Ok(())
            }
            Err(violation) => {
                self.remove(context, listeners, now, endpoint, Reason::Protocol);
                Err(violation)
            }
        }
    }
}
