//! What the daemon knows of a connection beside its endpoint.

use slotmap::{Key, KeyData};

use crate::daemon::streams::liveness::Written;
use crate::net::stream::Stream;
use upcall_engine::{EndpointId, ExpectedProtocol, ListenerNumber};
use upcall_wire::text::{End, Framing};
use upcall_wire::{frame, text};

slotmap::new_key_type! {
    pub(in crate::daemon) struct ConnectionKey;
}

impl ConnectionKey {
    /// For the poller and the engine. Never below 2³²: those are the listeners' (slotmap counts generations there).
    pub(in crate::daemon) fn token(self) -> u64 {
        self.data().as_ffi()
    }

    pub(in crate::daemon) fn from_token(token: u64) -> ConnectionKey {
        KeyData::from_ffi(token).into()
    }
}

/// Bytes that were read before the inputs had to wait.
#[derive(Debug)]
pub(in crate::daemon) struct Unread {
    pub(in crate::daemon) bytes: Vec<u8>,
    pub(in crate::daemon) end: End,
}

/// Makes messages of the bytes of a connection.
#[derive(Debug)]
pub(in crate::daemon) enum Decoder {
    /// The first byte is still to tell which protocol it speaks.
    Undecided(ExpectedProtocol, Framing),
    Text(text::TextDecoder),
    /// Boxed, since most connections speak text.
    Native(Box<frame::FrameDecoder>),
}

/// What has become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::daemon) enum State {
    Open,
    /// A write has failed: what was sent before may still be read, but its end is none.
    Broken,
    /// The end was read.
    Ended,
}

#[derive(Debug)]
pub(in crate::daemon) struct Connection {
    pub(in crate::daemon) stream: Stream,
    /// None once it has left the registry, or if it was never let in: then only its end is waited for.
    pub(in crate::daemon) endpoint: Option<EndpointId>,
    pub(in crate::daemon) decoder: Decoder,
    pub(in crate::daemon) unread: Option<Box<Unread>>,
    pub(in crate::daemon) listener: ListenerNumber,
    /// There is, or may be, something to read.
    pub(in crate::daemon) readable: bool,
    /// It stands in the queue of those that are readable.
    pub(in crate::daemon) queued: bool,
    /// It stands in the queue of those whose bytes are thrown away.
    pub(in crate::daemon) discarding: bool,
    /// The far end has ended its side: read until that end.
    pub(in crate::daemon) hangup: bool,
    pub(in crate::daemon) state: State,
    /// What it sends is thrown away.
    pub(in crate::daemon) discard: bool,
    /// The poller is asked for room to write.
    pub(in crate::daemon) wants_room: bool,
    /// When something was written to it that is perhaps not acknowledged.
    pub(in crate::daemon) written: Written,
}

impl Connection {
    pub(in crate::daemon) fn new(
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
