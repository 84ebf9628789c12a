//! The state of a connection besides its endpoint.

use upcall_engine::{EndpointId, ExpectedProtocol, ListenerNumber};
use upcall_wire::frame::FrameDecoder;
use upcall_wire::text::{End, Framing, TextDecoder};

use super::written::RecentWrites;
use crate::net::stream::Stream;

/// Bytes that were read but may not be handled yet, because inputs are held.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) bytes: Vec<u8>,
    pub(super) end: End,
}

/// Decodes the bytes of a connection into messages. The only record of which protocol the connection speaks.
#[derive(Debug)]
pub(super) enum Decoder {
    /// The first byte, which decides the protocol, has not arrived yet.
    Undecided(ExpectedProtocol, Framing),
    Text(TextDecoder),
    /// Boxed, because most connections speak text.
    Native(Box<FrameDecoder>),
}

/// The state of the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FarEnd {
    Open,
    /// A write has failed. Bytes that the far end sent before can still be read, but an end of stream after them is not
    /// a clean end.
    Broken,
    /// Its end of stream was read.
    Ended,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    /// `None` while it is in the waiting room, and after it has left the registry or was refused. It is then kept only
    /// until the far end closes its side.
    pub(super) endpoint: Option<EndpointId>,
    pub(super) decoder: Decoder,
    pub(super) unread: Option<Box<Unread>>,
    pub(super) listener: ListenerNumber,
    /// There is, or may be, something to read.
    pub(super) readable: bool,
    /// It is in the queue of readable connections.
    pub(super) in_readable: bool,
    /// It is in the queue of connections whose input is discarded.
    pub(super) in_discarding: bool,
    /// The poller has reported that the far end closed its side. The end of stream follows after the unread bytes.
    pub(super) hangup: bool,
    pub(super) far_end: FarEnd,
    /// Its input is discarded.
    pub(super) discards: bool,
    /// The poller also watches for room to write.
    pub(super) awaits_room: bool,
    /// When bytes were written that may not be acknowledged yet.
    pub(super) written: RecentWrites,
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
            written: RecentWrites::default(),
        }
    }
}
