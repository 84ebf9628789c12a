//! From the sockets to the engine: bytes, messages, inputs.

use std::io;

use crate::config::{Level, Role};
use crate::daemon::log::Count;
use crate::daemon::log::{debug, info};
use crate::daemon::server::Server;
use crate::daemon::streams::connection::{ConnectionKey, Decoder, State, Unread};
use crate::net::stream::Received;
use upcall_engine::{Accepted, EndpointId, ExpectedProtocol, InputTurn, Intake, Now};
use upcall_wire::escape::Escaped;
use upcall_wire::reason::Reason;
use upcall_wire::text;
use upcall_wire::text::End;

/// Of an input that is logged, so many bytes are shown.
const SHOWN: usize = 1024;

/// What is thrown away of one connection in one turn, in reads.
const DISCARDS: usize = 2;

/// Whether a connection has to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::daemon) enum Next {
    /// When something happens.
    Idle,
    /// After the others.
    Later,
    /// First of all: it has bytes that were read already, which should not be many connections' at a time.
    First,
    /// When the engine says that it need not wait for itself any more.
    Parked,
}

impl Server {
    /// There is, or may be, something to read from a connection.
    pub(in crate::daemon) fn mark_readable(&mut self, key: ConnectionKey, hangup: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.readable = true;
        connection.hangup |= hangup;
        // It enters the queue where it belongs, if it is not there already.
        if connection.discard {
            if !std::mem::replace(&mut connection.discarding, true) {
                self.discarding.push_back(key);
            }
        } else if !std::mem::replace(&mut connection.queued, true) {
            self.readable.push_back(key);
        }
    }

    /// Reads once from every connection that has something, as long as the engine takes inputs.
    pub(in crate::daemon) fn receive(&mut self, now: Now) {
        for _ in 0..self.discarding.len() {
            if let Some(key) = self.discarding.pop_front() {
                self.throw_away(now, key);
            }
        }
        for _ in 0..self.readable.len() {
            match self.engine.intake() {
                Intake::Open => {}
                Intake::Only(endpoint) => return self.receive_from_only(now, endpoint),
                Intake::Full | Intake::Held => return,
            }
            let Some(key) = self.readable.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.queued = false;
            if !connection.readable || connection.discard {
                continue;
            }
            let next = self.receive_from(now, key);
            self.go_on(key, next);
        }
    }

    /// Sees to it that a connection is looked at again when it has to be.
    fn go_on(&mut self, key: ConnectionKey, next: Next) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.readable = next != Next::Idle;
        match next {
            Next::Idle | Next::Parked => {}
            Next::First if !connection.discard => {
                // It may stand in the queue already; what matters is that it is first.
                connection.queued = true;
                self.readable.push_front(key);
            }
            Next::First | Next::Later => self.mark_readable(key, false),
        }
    }

    /// Inputs wait for this endpoint; its own need not. It keeps its place in the queue.
    fn receive_from_only(&mut self, now: Now, endpoint: EndpointId) {
        let Some(key) = self.key_of(endpoint) else { return };
        if self.connections.get(key).is_some_and(|connection| connection.readable && !connection.discard) {
            let next = self.receive_from(now, key);
            self.go_on(key, if next == Next::First { Next::Later } else { next });
        }
    }

    fn receive_from(&mut self, now: Now, key: ConnectionKey) -> Next {
        let Some(connection) = self.connections.get_mut(key) else { return Next::Idle };
        let Some(endpoint) = connection.endpoint else { return self.look_at_door(now, key) };
        if self.engine.request_input(now, endpoint) == InputTurn::Parked {
            return Next::Parked;
        }
        if let Some(unread) = connection.unread.take() {
            let next = self.handle(now, key, &unread.bytes, unread.end);
            // There was more to read when these bytes were put aside, or nobody knows.
            return if next == Next::Idle { Next::Later } else { next };
        }
        // The handling of the bytes needs all of the server but this buffer.
        let mut buffer = std::mem::take(&mut self.buffer);
        let next = match connection.stream.receive(&mut buffer) {
            Received::Bytes(count) => {
                // A short read has drained the socket (epoll(7)), unless its end is behind the bytes.
                let full = count == buffer.len();
                let again = full || connection.hangup;
                let next = self.handle(now, key, &buffer[..count], if full { End::More } else { End::Drained });
                if next == Next::Idle && again { Next::Later } else { next }
            }
            Received::Drained => self.handle(now, key, &[], End::Drained),
            Received::End if connection.state != State::Broken => {
                connection.state = State::Ended;
                self.handle(now, key, &[], End::Eof)
            }
            // The error was reported to a write already; what looks like an end is none, and ends no message.
            Received::End => self.broke(now, key, Reason::Reset),
            Received::Broken(error) => {
                debug!(self.log, "a connection broke: {error}");
                self.broke(now, key, reason_of(&error))
            }
        };
        self.buffer = buffer;
        next
    }

    /// Makes messages of bytes, and inputs of messages.
    fn handle(&mut self, now: Now, key: ConnectionKey, bytes: &[u8], end: End) -> Next {
        let Some(connection) = self.connections.get_mut(key) else { return Next::Idle };
        let Some(endpoint) = connection.endpoint else { return Next::Idle };
        if let (Decoder::Undecided(opening, framing), Some(first)) = (&connection.decoder, bytes.first()) {
            let (native, opening, framing) = (*first == 0, *opening, *framing);
            if native {
                connection.decoder = Decoder::Native(Box::default());
                if !self.engine.detected_native(now, endpoint) {
                    // It has been silent for so long that it gets text. Taken for text, it would tell everybody its secrets.
                    return self.dismiss(now, key, Reason::Protocol);
                }
            } else if opening == ExpectedProtocol::Native {
                let reason = if self.wants_token(key) { Reason::CredentialsRequired } else { Reason::Protocol };
                return self.dismiss(now, key, reason);
            } else {
                connection.decoder = Decoder::Text(text::TextDecoder::new(framing));
                self.engine.detected_text(now, endpoint);
            }
        }
        match self.connections[key].decoder {
            Decoder::Native(_) => self.handle_native(now, key, endpoint, bytes, end),
            _ => self.handle_text(now, key, endpoint, bytes, end),
        }
    }

    fn handle_text(&mut self, now: Now, key: ConnectionKey, endpoint: EndpointId, mut bytes: &[u8], end: End) -> Next {
        let listener = self.listeners.get(&self.connections[key].listener);
        if !bytes.is_empty() && listener.is_some_and(|active| active.rules.role == Role::Output) {
            return self.dismiss(now, key, Reason::OutputOnly);
        }
        let max = self.config.upcall.max_message;
        let logs = self.log_inputs && self.log.enabled(Level::Info);
        let mut any = false;
        // One that has not said anything has nothing unfinished.
        let mut unfinished = false;
        if let Decoder::Text(decoder) = &mut self.connections[key].decoder {
            loop {
                if !logs {
                    any |= self.engine.input_lines(now, endpoint, decoder.lines(&mut bytes, max)) > 0;
                }
                let turn = self.engine.request_input(now, endpoint);
                if turn != InputTurn::Granted {
                    return self.put_aside(key, bytes, end, turn);
                }
                match decoder.next(&mut bytes, end, max) {
                    Ok(Some(message)) => {
                        any = true;
                        if let Some(accepted) = self.engine.input(now, endpoint, message)
                            && logs
                        {
                            let id = self.engine.endpoint(endpoint).map_or(0, |endpoint| endpoint.number);
                            log_input(&mut self.log, id, message, accepted);
                        }
                    }
                    Ok(None) => break unfinished = decoder.is_unfinished(),
                    Err(reason) => return self.dismiss(now, key, reason),
                }
            }
        } else {
            let turn = self.engine.request_input(now, endpoint);
            if turn != InputTurn::Granted {
                return self.put_aside(key, bytes, end, turn);
            }
        }
        self.note_end(now, endpoint, any, unfinished, end)
    }

    /// Keeps bytes whose turn it is not.
    pub(in crate::daemon) fn put_aside(&mut self, key: ConnectionKey, bytes: &[u8], end: End, turn: InputTurn) -> Next {
        self.connections[key].unread = Some(Box::new(Unread { bytes: bytes.to_vec(), end }));
        if turn == InputTurn::Parked { Next::Parked } else { Next::First }
    }

    /// All bytes are handled; `any`: a message was complete, `unfinished`: one has begun.
    pub(in crate::daemon) fn note_end(
        &mut self,
        now: Now,
        endpoint: EndpointId,
        any: bool,
        unfinished: bool,
        end: End,
    ) -> Next {
        let unfinished = unfinished && end != End::More;
        if any && unfinished {
            // Whatever was unfinished before is complete.
            self.engine.note_received(now, endpoint, false);
        }
        self.engine.note_received(now, endpoint, unfinished);
        if end == End::Eof {
            self.engine.leave(now, endpoint, Reason::Closed);
        }
        Next::Idle
    }

    /// A connection is broken: its endpoint, if it has one, is lost.
    fn broke(&mut self, now: Now, key: ConnectionKey, reason: Reason) -> Next {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.state = State::Ended;
            if let Some(endpoint) = connection.endpoint {
                self.engine.connection_lost(now, endpoint, reason);
            }
        }
        Next::Idle
    }

    /// Tells a connection to leave: what it sends from now on is thrown away.
    pub(in crate::daemon) fn dismiss(&mut self, now: Now, key: ConnectionKey, reason: Reason) -> Next {
        let Some(connection) = self.connections.get_mut(key) else { return Next::Idle };
        connection.discard = true;
        let speaks_native = matches!(connection.decoder, Decoder::Native(_));
        match connection.endpoint {
            Some(endpoint) if speaks_native => self.engine.leave(now, endpoint, reason),
            Some(endpoint) => self.engine.reject(now, endpoint, reason),
            None => {}
        }
        Next::Later
    }

    /// Reads what nobody wants any more, until the end comes.
    fn throw_away(&mut self, now: Now, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.discarding = false;
        connection.unread = None;
        for _ in 0..DISCARDS {
            match connection.stream.receive(&mut self.buffer) {
                Received::Bytes(_) => {}
                Received::Drained => return connection.readable = false,
                Received::End | Received::Broken(_) if connection.endpoint.is_none() => return self.close(key),
                Received::End => {
                    connection.state = State::Ended;
                    return connection.readable = false;
                }
                Received::Broken(error) => {
                    connection.readable = false;
                    self.broke(now, key, reason_of(&error));
                    return;
                }
            }
        }
        self.mark_readable(key, false);
    }
}

/// What an error of a connection says of its peer: keepalive, or retransmission, has given it up (tcp(7)); or it is broken.
fn reason_of(error: &io::Error) -> Reason {
    match error.raw_os_error() {
        Some(libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH) => Reason::Dead,
        _ => Reason::Reset,
    }
}

pub(in crate::daemon) fn log_input(log: &mut crate::daemon::log::Log, id: u64, message: &[u8], accepted: Accepted) {
    let Accepted { sequence, due, .. } = accepted;
    let data = message.strip_suffix(b"\n").unwrap_or(message);
    let shown = Escaped(&data[..data.len().min(SHOWN)]);
    let more = if data.len() > SHOWN { format!("… ({} bytes)", data.len()) } else { String::new() };
    let sender = if id == 0 { "not registered".to_string() } else { format!("#{id}") };
    let due = Count(due, "endpoint");
    info!(log, endpoint = id, sequence = sequence; "Received from client: {shown}{more} -- {sender}, upcall {sequence} to {due}");
}
