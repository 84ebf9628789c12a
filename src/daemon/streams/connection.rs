//! What the daemon knows of a connection besides its endpoint.

use super::written::Written;
use crate::net::stream::Stream;
use upcall_engine::{EndpointId, ExpectedProtocol, ListenerNumber};
use upcall_wire::frame::FrameDecoder;
use upcall_wire::text::{End, Framing, TextDecoder};

/// Bytes that were read before inputs had to wait.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) bytes: Vec<u8>,
    pub(super) end: End,
}

/// Makes messages of the bytes of a connection. The daemon knows only from this which protocol a connection speaks.
#[derive(Debug)]
pub(super) enum Decoder {
    /// The first byte, which decides the protocol, has not come yet.
    Undecided(ExpectedProtocol, Framing),
    Text(TextDecoder),
    /// Boxed, since most connections speak text.
    Native(Box<FrameDecoder>),
}

/// What is known of the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FarEnd {
    Open,
    /// A write has failed. What the far end sent before may still be read, but an end that follows is not a clean one.
    Broken,
    /// Its end was read.
    Ended,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// `None` while it is in the waiting room, and once it has left the registry or was refused: then only its end is
    /// awaited.
    pub(super) endpoint: Option<EndpointId>,
    pub(super) decoder: Decoder,
    pub(super) unread: Option<Box<Unread>>,
    pub(super) listener: ListenerNumber,
    /// There is, or may be, something to read.
    pub(super) readable: bool,
    /// It is in the queue of those that are readable.
    pub(super) in_readable: bool,
    /// It is in the queue of those whose bytes are thrown away.
    pub(super) in_discarding: bool,
    /// The poller has reported the end of the far side, which is read after the bytes before it.
    pub(super) hangup: bool,
    pub(super) far_end: FarEnd,
    /// What it sends is thrown away.
    pub(super) discards: bool,
    /// The poller watches it for room to write.
    pub(super) awaits_room: bool,
    /// When something was written to it that may not be acknowledged yet.
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
                ExpectedProtocol::Text => Decoder::Text(TextDecoder::new(framing)),
                undecided => Decoder::Undecided(undecided, framing),
            },
            unread: None,
            listener,
            readable: false,
            in_readable: false,
            in_discarding: false,
            hangup: false,
            far_end: FarEnd::Open,
            discards: false,
            awaits_room: false,
            written: Written::default(),
        }
    }
}
