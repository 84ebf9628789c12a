//! A native datagram client as the daemon knows it.

use upcall_engine::{EndpointId, Time};

/// A registered datagram client.
#[derive(Debug)]
pub(crate) struct NativePeer {
    pub(crate) endpoint: EndpointId,
    pub(crate) address: u64,
    pub(crate) lease: Time,
    pub(crate) blocked: bool,
    /// When the last datagram came from it, or the last retransmission timeout began.
    pub(super) burst_start: Time,
    /// The number of datagrams since then that it must acknowledge.
    pub(super) burst_datagrams: u32,
}
