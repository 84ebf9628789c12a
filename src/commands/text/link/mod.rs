//! A link to the daemon: the interface between an exchange and a transport.
//!
//! Must not know sources, sinks, or the commands that use a link.

pub(super) mod datagram;
pub(in crate::commands) mod membership;
mod pacer;
mod splitter;
pub(super) mod stream;

use std::io;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use upcall_wire::farewell::Farewell;

use crate::commands::failure::Failure;

/// Called with each upcall, its newline included if it had one; breaks once no more are wanted.
pub(super) type OnUpcall<'a> = dyn FnMut(&[u8]) -> ControlFlow<()> + 'a;

/// The options of a command for its link.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkOptions {
    /// The time limit for connecting.
    pub(super) timeout: Duration,
    /// How long to wait for the daemon after the last input: to accept everything and, on a stream, to close.
    pub(super) linger: Duration,
    /// Whether the upcalls that follow the last input are wanted.
    pub(super) echo: bool,
}

/// A registration with the daemon, and the bytes on their way to it.
pub(super) trait Link: Send {
    /// The descriptor to poll: for reading, and for writing if [`Link::wants_room`].
    fn fd(&self) -> BorrowedFd<'_>;

    /// Whether bytes wait for room in the socket.
    fn wants_room(&self) -> bool;

    /// The latest time to call [`Link::expire`].
    fn due(&self) -> Option<Instant>;

    /// The buffer to which lines to be sent are appended.
    fn out(&mut self) -> &mut Vec<u8>;

    /// Reads from the socket, and passes upcalls on.
    fn receive(&mut self, on_upcall: &mut OnUpcall<'_>) -> Option<LinkEnd>;

    /// Sends as much as can be sent now. `last`: nothing more will be appended.
    fn send(&mut self, last: bool) -> Option<LinkEnd>;

    /// Whether bytes that are appended from now on can still be sent.
    fn is_writable(&self) -> bool {
        true
    }

    /// Handles the deadlines that have passed.
    fn expire(&mut self, on_upcall: &mut OnUpcall<'_>) -> Option<LinkEnd>;

    /// Ends the registration on transports where closing the socket does not.
    fn leave(&mut self) {}
}

/// How a link ended.
#[derive(Debug)]
pub(super) enum LinkEnd {
    /// The daemon closed the connection, or ended the registration.
    Closed {
        /// The reason, if the daemon gave one.
        farewell: Option<Farewell>,
        /// Whether everything had been sent and our side was closed: then the daemon has accepted it all.
        complete: bool,
    },
    /// The connection broke.
    Broken(io::Error),
    /// No daemon receives our datagrams any more, or something cannot be sent.
    Failed(Failure),
    /// Everything was sent, but the daemon did not close in time.
    Lingered {
        /// Whether some of it never left this machine.
        unsent: bool,
    },
    /// Everything was sent, on a transport that confirms nothing.
    Sent,
}
