//! What the daemon knows of a connection beside its endpoint.

use slotmap::{Key, KeyData};

use super::liveness::Written;
use crate::net::stream::Stream;
use upcall_engine::{EndpointId, ExpectedProtocol, ListenerNumber};
use upcall_wire::text::{End, Framing};
use upcall_wire::{frame, text};

slotmap::new_key_type! {
    pub(super) struct ConnectionKey;
}

impl ConnectionKey {
    /// For the poller and the engine. Never below 2³²: those are the listeners' (slotmap counts generations there).
    pub(super) fn token(self) -> u64 {
        self.data().as_ffi()
    }

    pub(super) fn from_token(token: u64) -> ConnectionKey {
        KeyData::from_ffi(token).into()
    }
}

/// Bytes that were read before the inputs had to wait.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) bytes: Vec<u8>,
    pub(super) end: End,
}

/// Makes messages of the bytes of a connection.
#[derive(Debug)]
pub(super) enum Decoder {
    /// The first byte is still to tell which protocol it speaks.
    Undecided(ExpectedProtocol, Framing),
    Text(text::TextDecoder),
    /// Boxed, since most connections speak text.
    Native(Box<frame::FrameDecoder>),
}

/// What has become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// A write has failed: what was sent before may still be read, but its end is none.
    Broken,
    /// The end was read.
    Ended,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// None once it has left the registry, or if it was never let in: then only its end is waited for.
    pub(super) endpoint: Option<EndpointId>,
    pub(super) decoder: Decoder,
    pub(super) unread: Option<Box<Unread>>,
    pub(super) listener: ListenerNumber,
    /// There is, or may be, something to read.
    pub(super) readable: bool,
    /// It stands in the queue of those that are readable.
    pub(super) queued: bool,
    /// It stands in the queue of those whose bytes are thrown away.
    pub(super) discarding: bool,
    /// The far end has ended its side: read until that end.
    pub(super) hangup: bool,
    pub(super) state: State,
    /// What it sends is thrown away.
    pub(super) discard: bool,
    /// The poller is asked for room to write.
    pub(super) wants_room: bool,
    /// When something was written to it that is perhaps not acknowledged.
    pub(super) written: Written,
}

impl Connection {
    pub(super) fn new(
        stream: Stream,
        listener: ListenerNumber,
        framing: Framing,
        protocol: ExpectedProtocol,
    ) -> Connection {
        Connection {
            stream,
            endpoint: None,
            decoder: match protocol {
                ExpectedProtocol::Text => Decoder::Text(text::TextDecoder::new(framing)),
                opening => Decoder::Undecided(opening, framing),
            },
            unread: None,
            listener,
            readable: false,
            queued: false,
            discarding: false,
            hangup: false,
            state: State::Open,
            discard: false,
            wants_room: false,
            written: Written::default(),
        }
    }
}
