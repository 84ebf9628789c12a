//! Native connections: frames of bytes, credentials, and what becomes of each frame.

use crate::config::{self, Level, Role};
use crate::daemon::listeners::admission;
use crate::daemon::log::log_at;
use crate::daemon::server::Server;
use crate::daemon::streams::accept::traffic_level;
use crate::daemon::streams::connection::{ConnectionKey, Decoder};
use crate::daemon::streams::read::{Next, log_input};
use upcall_engine::{EndpointId, ExpectedProtocol, InputTurn, Now, Terms};
use upcall_wire::address::Peer;
use upcall_wire::escape::Escaped;
use upcall_wire::frame::{self, Code, Frame, Hello, Violation, kind};
use upcall_wire::text::{End, Framing};

/// What a listener's role allows native endpoints.
pub(in crate::daemon) fn terms(rules: &config::Listener, peer: Peer) -> Terms {
    Terms {
        sends: rules.role != Role::Output,
        receives: rules.role != Role::Input,
        history: rules.history,
        max_sessions: admission::max_per_source(rules, peer),
    }
}

impl Server {
    pub(in crate::daemon) fn handle_native(
        &mut self,
        now: Now,
        key: ConnectionKey,
        endpoint: EndpointId,
        bytes: &[u8],
        end: End,
    ) -> Next {
        let Some(connection) = self.connections.get_mut(key) else { return Next::Idle };
        // The handling of frames needs all of the server but this.
        let lent = Decoder::Undecided(ExpectedProtocol::Native, Framing::Auto);
        let Decoder::Native(mut decoder) = std::mem::replace(&mut connection.decoder, lent) else {
            return Next::Idle;
        };
        let next = self.handle_frames(now, key, endpoint, &mut decoder, bytes, end);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.decoder = Decoder::Native(decoder);
        }
        next
    }

    fn handle_frames(
        &mut self,
        now: Now,
        key: ConnectionKey,
        endpoint: EndpointId,
        decoder: &mut frame::FrameDecoder,
        mut bytes: &[u8],
        end: End,
    ) -> Next {
        let max = self.config.upcall.max_message;
        let logs = self.log_inputs && self.log.enabled(Level::Info);
        let mut any = false;
        loop {
            if !logs
                && let Some(message) = self.engine.next_message(endpoint)
                && self.engine.input_sends(now, endpoint, decoder.sends(&mut bytes, message, max)) > 0
            {
                any = true;
                if !self.is_heard(endpoint) {
                    return self.ignore(key);
                }
            }
            let turn = self.engine.request_input(now, endpoint);
            if turn != InputTurn::Granted {
                return self.put_aside(key, bytes, end, turn);
            }
            let is_last = match decoder.next(&mut bytes, max) {
                Ok(Some(frame)) => {
                    any = true;
                    self.handle_frame(now, key, endpoint, &frame);
                    false
                }
                Ok(None) => true,
                Err(violation) => {
                    self.engine.handle_violation(now, endpoint, &violation);
                    false
                }
            };
            if !self.is_heard(endpoint) {
                return self.ignore(key);
            }
            if is_last {
                break;
            }
        }
        self.note_end(now, endpoint, any, decoder.is_unfinished(), end)
    }

    /// Whether what an endpoint says still counts.
    fn is_heard(&self, endpoint: EndpointId) -> bool {
        self.engine.endpoint(endpoint).is_some_and(|endpoint| endpoint.leaving().is_none())
    }

    /// Throws away whatever else a connection sends.
    fn ignore(&mut self, key: ConnectionKey) -> Next {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.discard = true;
        }
        Next::Later
    }

    fn handle_frame(&mut self, now: Now, key: ConnectionKey, endpoint: EndpointId, frame: &Frame<'_>) {
        let Frame::Hello(hello) = frame else {
            if let (Some(accepted), Frame::Send(send)) = (self.engine.handle_frame(now, endpoint, frame), frame)
                && self.log_inputs
                && self.log.enabled(Level::Info)
            {
                let id = self.engine.endpoint(endpoint).map_or(0, |endpoint| endpoint.number);
                log_input(&mut self.log, id, send.payload, accepted);
            }
            return;
        };
        let Some(active) = self.connections.get(key).and_then(|connection| self.listeners.get(&connection.listener))
        else {
            return;
        };
        let Some(peer) = self.engine.endpoint(endpoint).map(|endpoint| endpoint.peer) else { return };
        let terms = terms(&active.rules, peer);
        if let Err(violation) = authenticate(&active.rules, hello) {
            return self.engine.handle_violation(now, endpoint, &violation);
        }
        if self.engine.handle_hello(now, endpoint, hello, terms).is_ok() {
            self.log_welcome(endpoint, hello);
        }
    }

    pub(in crate::daemon) fn log_welcome(&mut self, endpoint: EndpointId, hello: &Hello<'_>) {
        let Some(endpoint) = self.engine.endpoint(endpoint) else { return };
        let name = endpoint.name().map_or(String::new(), |name| format!(" ({})", Escaped(name.as_bytes())));
        let how = if hello.resume.is_some() { "resumed its session" } else { "speaks native" };
        let role = self.listeners.get(&endpoint.listener).map_or(Role::Both, |active| active.rules.role);
        log_at!(traffic_level(role), self.log, endpoint = endpoint.number, peer = endpoint.peer; "#{}{name} {how}; {} from {}", endpoint.number, endpoint.transport, endpoint.peer);
    }

    /// Whether the listener of a connection wants a token.
    pub(in crate::daemon) fn wants_token(&self, key: ConnectionKey) -> bool {
        let listener = self.connections.get(key).and_then(|connection| self.listeners.get(&connection.listener));
        listener.is_some_and(|active| active.rules.token.is_some())
    }
}

/// Whether a HELLO carries what its listener asks for.
pub(in crate::daemon) fn authenticate(rules: &config::Listener, hello: &Hello<'_>) -> Result<(), Violation> {
    let text = match (&rules.token, hello.token) {
        (None, _) => return Ok(()),
        (Some(token), Some(offered)) if token.is(offered) => return Ok(()),
        (Some(_), Some(_)) => "the token is wrong",
        (Some(_), None) => "this listener wants a token",
    };
    Err(Violation { code: Code::Unauthorized, about: kind::HELLO, reference: hello.nonce, text })
}
