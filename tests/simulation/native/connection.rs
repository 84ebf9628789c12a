//! A connection of a native client: a pipe of bytes in each direction, which can break anywhere.

use upcall_engine::EndpointId;
use upcall_wire::frame::FrameDecoder;

/// How a connection ends, from the daemon's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionEnd {
    Eof,
    Reset,
    /// The far end vanished without a FIN or a reset.
    Silent,
}

/// A connection, with the state of both sides.
#[derive(Debug)]
pub(crate) struct NativeConnection {
    /// `None` once the endpoint has left.
    pub(crate) endpoint: Option<EndpointId>,
    /// `None` until the first byte has shown that the client speaks native.
    pub(super) decoder: Option<FrameDecoder>,
    /// Bytes from the client that the daemon has not read yet.
    pub(crate) up: Vec<u8>,
    /// How the client ended the connection.
    pub(crate) end: Option<ConnectionEnd>,
    /// Bytes in the client's socket, and how many it holds.
    pub(crate) down: Vec<u8>,
    pub(crate) capacity: usize,
    pub(crate) blocked: bool,
    pub(crate) parked: bool,
    /// The endpoint leaves: what the client still sends is read and dropped.
    pub(super) discard: bool,
    /// The client has not closed its side.
    pub(crate) open: bool,
}
