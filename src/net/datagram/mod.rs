//! Datagram sockets, UDP and Unix: binding, and receiving and sending in batches.
//!
//! Knows addresses and bytes. Must not know endpoints, or the meaning of a datagram.
//!
//! [`DatagramSocket`] is the socket that all peers of a listener share. [`FlowControl`] keeps peers that do not read
//! from filling a shared Unix socket, and [`PeerSocket`] is a sending socket for one such peer.

mod batch;
mod bind;
mod errno;
mod flow;
mod inbox;
mod peer_socket;
mod socket;
#[cfg(test)]
mod tests;
mod unix_diag;
mod unix_peer;

pub use batch::{Batch, BatchBuffer, Destination, SendOutcome};
pub use errno::SendError;
pub use flow::{FlowControl, InFlight, Stalled};
pub use inbox::{Datagram, Inbox, LocalAddress, Received, Sender};
pub use peer_socket::PeerSocket;
pub use socket::{BufferUsage, DatagramSocket};
pub use unix_peer::{UnixPeer, Unwritable};
