//! The seam between the exchange and the transports: what every way to the daemon can do, and how one ends.
//!
//! Knows neither sources nor sinks; what is behind the seam knows nothing of the commands in front of it.

mod datagram;
pub(in crate::commands) mod membership;
mod pacer;
mod splitter;
mod stream;

use std::io;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::commands::failure::Failure;
use datagram::DatagramLink;
use stream::StreamLink;
use upcall_client::socket::stream::StreamSocket;
use upcall_wire::address::Address;
use upcall_wire::farewell::Farewell;

/// What takes an upcall, its newline included if it had one; breaks when no more are wanted.
pub(in crate::commands) type Take<'a> = dyn FnMut(&[u8]) -> ControlFlow<()> + 'a;

/// A way to the daemon.
pub(in crate::commands) trait Link: Send {
    /// What to wait for: that it can be read, and written if [`Link::wants_room`].
    fn fd(&self) -> BorrowedFd<'_>;

    /// Whether something waits for room in the socket.
    fn wants_room(&self) -> bool;

    /// When to call [`Link::expire`] at the latest.
    fn due(&self) -> Option<Instant>;

    /// Where lines to be sent are appended.
    fn out(&mut self) -> &mut Vec<u8>;

    /// Takes what has come.
    fn receive(&mut self, take: &mut Take<'_>) -> Option<End>;

    /// Sends what may be sent now; `last`: nothing will be appended any more.
    fn send(&mut self, last: bool) -> Option<End>;

    /// Whether there is any point in appending more.
    fn takes_more(&self) -> bool {
        true
    }

    /// Does what is due by now.
    fn expire(&mut self, take: &mut Take<'_>) -> Option<End>;

    /// Says goodbye where the transport does not do that by itself.
    fn leave(&mut self) {}
}

/// How an exchange ended.
#[derive(Debug)]
pub(in crate::commands) enum End {
    /// The daemon closed the connection, or said that it forgets us.
    Closed {
        /// Why, where it said so.
        farewell: Option<Farewell>,
        /// Everything had been sent and our side closed: the daemon has taken it all.
        complete: bool,
    },
    /// The connection broke.
    Broken(io::Error),
    /// Something else went wrong: nobody is there any more, or what was to be sent cannot be.
    Failed(Failure),
    /// Everything was sent, and the daemon did not close within the time allowed.
    Lingered {
        /// Some of it never left this machine.
        unsent: bool,
    },
    /// Everything was sent, on a transport that confirms nothing.
    Sent,
    /// The sink has enough.
    Enough,
    /// Whoever read our output is gone.
    OutputClosed,
    /// The deadline has passed.
    TimedOut,
    /// `stop` became readable.
    Stopped,
}

/// What a command wants of a link.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands) struct Manner {
    /// How long it may take to be made.
    pub(in crate::commands) timeout: Duration,
    /// How long to wait once the source is at its end: for the daemon to take everything, and to close where it does.
    pub(in crate::commands) linger: Duration,
    /// Upcalls that come behind the last input are wanted.
    pub(in crate::commands) echo: bool,
}

/// Makes a link over whichever transport the address names.
pub(in crate::commands) fn open(address: &Address, manner: Manner) -> Result<Box<dyn Link>, Failure> {
    if address.transport().is_datagram() {
        Ok(Box::new(DatagramLink::open(address, manner)?))
    } else {
        Ok(Box::new(StreamLink::new(StreamSocket::open(address, manner.timeout)?, manner.linger)))
    }
}
