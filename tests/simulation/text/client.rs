//! A text client: its socket, and what it has read.

use upcall_engine::{EndpointId, Time};
use upcall_wire::reason::Reason;

/// What a text client sends over datagrams.
#[derive(Debug, Clone)]
pub(crate) enum TextDatagram {
    /// A renewal of the lease.
    Renewal,
    /// An input.
    Input(Vec<u8>),
}

/// The far end of an endpoint: the buffer of its socket, and what was read from it.
pub(crate) struct TextClient {
    pub(crate) id: EndpointId,
    pub(crate) receives: bool,
    /// The next sequence of the log when the endpoint was registered.
    pub(crate) joined: u64,
    /// Bytes in the buffer of a stream socket, and how many it holds.
    pub(crate) buffer: Vec<u8>,
    pub(crate) capacity: usize,
    pub(crate) blocked: bool,
    /// It always reads everything immediately, so it must never be disconnected as slow.
    pub(crate) prompt: bool,
    pub(crate) stalled: bool,
    pub(crate) ever_stalled: bool,
    pub(crate) read: Vec<u8>,
    /// The datagrams that were sent to it; `None` for a stream.
    pub(crate) datagrams: Option<Vec<Vec<u8>>>,
    /// When its lease ends, on the clock that counts suspend.
    pub(crate) lease: Time,
    /// The next sequence of the log when the endpoint left or began to leave.
    pub(crate) until: Option<u64>,
    /// Why it left, and whether everything up to `until` was written.
    pub(crate) ended: Option<(Reason, bool)>,
}
