//! Makes a link on whichever transport an address names.

use upcall_client::socket::stream::StreamSocket;
use upcall_wire::address::Address;

use super::link::datagram::DatagramLink;
use super::link::stream::StreamLink;
use super::link::{Link, LinkOptions};
use crate::commands::failure::Failure;
use crate::commands::terminal::signals::CaughtSignals;

/// Connects to the daemon, or joins it.
pub(super) fn connect(address: &Address, options: LinkOptions) -> Result<Box<dyn Link>, Failure> {
    if address.transport().is_datagram() {
        Ok(Box::new(DatagramLink::open(address, options)?))
    } else {
        Ok(Box::new(StreamLink::new(StreamSocket::open(address, options.timeout)?, options.linger)))
    }
}

/// Catches signals on datagram transports. There, a program that is killed stays registered until its lease ends, while
/// a connection is closed by the kernel.
pub(super) fn catch_signals(address: &Address) -> Result<Option<CaughtSignals>, Failure> {
    address.transport().is_datagram().then(CaughtSignals::catch_to_leave).transpose()
}
