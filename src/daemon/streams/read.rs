//! Reads from the socket of a connection, and selects the decoder by the first byte.

use upcall_engine::{EndpointId, ExpectedProtocol, InputTurn, Now};
use upcall_wire::reason::Reason;
use upcall_wire::text::{End, TextDecoder};

use super::connection::{Connection, Decoder, FarEnd, Unread};
use super::{NextRead, Streams};
use crate::daemon::context::Context;
use crate::daemon::listeners::Listeners;
use crate::daemon::log::debug;
use crate::daemon::tokens::ConnectionKey;
use crate::net::stream::ReadOutcome;

/// The data for handling the bytes of one read, besides the connection and the context.
pub(super) struct ReadContext<'r> {
    pub(super) listeners: &'r Listeners,
    pub(super) now: Now,
    pub(super) endpoint: EndpointId,
    /// The engine has granted the endpoint one input, which has not been handled yet.
    pub(super) is_granted: bool,
}

impl ReadContext<'_> {
    /// Whether the endpoint's next input may be handled. Each answer is valid for one input.
    pub(super) fn request_input(&mut self, context: &mut Context) -> InputTurn {
        if std::mem::take(&mut self.is_granted) {
            return InputTurn::Granted;
        }
        context.engine.request_input(self.now, self.endpoint)
    }
}

impl Streams {
    /// Reads once from a connection, or handles its bytes that were put aside.
    pub(super) fn receive_from(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        now: Now,
        key: ConnectionKey,
    ) -> NextRead {
        let Streams { connections, buffer, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return NextRead::OnEvent };
        let Some(endpoint) = connection.endpoint else { return self.read_waiting(context, listeners, now, key) };
        let is_granted = match context.engine.request_input(now, endpoint) {
            InputTurn::Parked => return NextRead::Parked,
            turn => turn == InputTurn::Granted,
        };
        let reading = ReadContext { listeners, now, endpoint, is_granted };
        if let Some(unread) = connection.unread.take() {
            let next = connection.handle(context, reading, &unread.bytes, unread.end);
            // There may be more to read: the state of the socket when these bytes were put aside is not recorded.
            return if next == NextRead::OnEvent { NextRead::Later } else { next };
        }
        match connection.stream.receive(buffer) {
            ReadOutcome::Bytes(count) => {
                // A short read has drained the socket (epoll(7)), unless the end of stream follows the bytes.
                let full = count == buffer.len();
                let again = full || connection.hangup;
                let end = if full { End::More } else { End::Drained };
                let next = connection.handle(context, reading, &buffer[..count], end);
                if next == NextRead::OnEvent && again { NextRead::Later } else { next }
            }
            ReadOutcome::Drained => connection.handle(context, reading, &[], End::Drained),
            ReadOutcome::End if connection.far_end != FarEnd::Broken => {
                connection.far_end = FarEnd::Ended;
                connection.handle(context, reading, &[], End::Eof)
            }
            // A write has failed before, so this is not a clean end, and must not complete a message.
            ReadOutcome::End => connection.broken(context, now, Reason::Reset),
            ReadOutcome::Broken(error) => {
                debug!(context.logger, "a connection broke: {error}");
                connection.broken(context, now, super::close::reason_of(&error))
            }
        }
    }
}

impl Connection {
    /// Decodes bytes into messages, and handles these as inputs.
    fn handle(&mut self, context: &mut Context, mut reading: ReadContext<'_>, bytes: &[u8], end: End) -> NextRead {
        if let (Decoder::Undecided(expected, framing), Some(first)) = (&self.decoder, bytes.first()) {
            let (is_native, expected, framing) = (*first == 0, *expected, *framing);
            let (now, endpoint) = (reading.now, reading.endpoint);
            if is_native {
                self.decoder = Decoder::Native(Box::default());
                if !context.engine.detected_native(now, endpoint) {
                    // It was silent for so long that it was given text. Its frames must not be treated as text, because
                    // their secrets would be sent to every endpoint.
                    return self.dismiss(context, now, Reason::Protocol);
                }
            } else if expected == ExpectedProtocol::Native {
                let listener = reading.listeners.get(self.listener);
                let wants_token = listener.is_some_and(|listener| listener.rules.token.is_some());
                let reason = if wants_token { Reason::CredentialsRequired } else { Reason::Protocol };
                return self.dismiss(context, now, reason);
            } else {
                self.decoder = Decoder::Text(TextDecoder::new(framing));
                context.engine.detected_text(now, endpoint);
            }
            // Ask the engine again: as a text endpoint it may be far behind, which puts off its own inputs.
            reading.is_granted = false;
        }
        match &self.decoder {
            Decoder::Native(_) => self.handle_native(context, reading, bytes, end),
            Decoder::Text(_) => self.handle_text(context, reading, bytes, end),
            Decoder::Undecided(..) => match reading.request_input(context) {
                // Without a first byte there is no message, only the end of the read or of the stream.
                InputTurn::Granted => self.end_of_bytes(context, &reading, Handled::NOTHING, end),
                turn => self.put_aside(bytes, end, turn),
            },
        }
    }

    /// Keeps bytes that may not be handled yet.
    pub(super) fn put_aside(&mut self, bytes: &[u8], end: End, turn: InputTurn) -> NextRead {
        self.unread = Some(Box::new(Unread { bytes: bytes.to_vec(), end }));
        if turn == InputTurn::Parked { NextRead::Parked } else { NextRead::First }
    }

    /// Called when all bytes of a read are handled.
    pub(super) fn end_of_bytes(
        &self,
        context: &mut Context,
        reading: &ReadContext<'_>,
        handled: Handled,
        end: End,
    ) -> NextRead {
        let ReadContext { now, endpoint, .. } = *reading;
        let unfinished = handled.unfinished && end != End::More;
        if handled.any && unfinished {
            // The message that was unfinished before this read is complete.
            context.engine.note_received(now, endpoint, false);
        }
        context.engine.note_received(now, endpoint, unfinished);
        if end == End::Eof {
            context.engine.leave(now, endpoint, Reason::Closed);
        }
        NextRead::OnEvent
    }
}

/// The result of decoding the bytes of a read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handled {
    /// At least one message was complete.
    pub(super) any: bool,
    /// The last message is not complete.
    pub(super) unfinished: bool,
}

impl Handled {
    const NOTHING: Handled = Handled { any: false, unfinished: false };
}
