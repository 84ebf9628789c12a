//! A connection of the bench, in whichever protocol and over whichever transport.
//!
//! Each implementation of [`BenchLink`] is a file here; [`connect`] chooses one.

pub(super) mod connect;
mod native_datagram;
mod native_stream;
mod text_datagram;
mod text_stream;

use std::io;
use std::os::fd::AsFd;

use upcall_wire::farewell::Farewell;

use crate::commands::failure::Failure;
use crate::exit::Status;

/// An endpoint that is registered with the daemon, or about to be: it sends inputs and reads upcalls.
pub(super) trait BenchLink: AsFd {
    /// Sends messages of `size` bytes each, which follow each other without a separator, as far as there is room.
    /// Returns how many bytes were sent. A stream may stop within a message; a datagram is always a whole message.
    fn send(&mut self, messages: &[u8], size: usize) -> io::Result<usize>;

    /// Reads upcalls, which follow each other without a separator. 0 is the end of a stream; a datagram link never
    /// returns it.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Renews the registration, or requests it again, where it has a lease. The request may be lost.
    fn renew(&mut self) {}

    /// The failure that ended the link, if it is known. Nothing can be sent or received after it.
    fn take_failure(&mut self) -> Option<Failure> {
        None
    }

    /// Whether upcalls may be lost. Such a link also has a lease that must be renewed.
    fn is_lossy(&self) -> bool;

    /// The process id of the daemon, if the kernel knows it.
    fn daemon_pid(&self) -> Option<u32>;
}

/// Why a connection ended, from the last bytes that were read and the error, if there was one.
pub(super) fn unexpected_end(tail: &[u8], error: Option<&io::Error>) -> Failure {
    let last = tail.split_inclusive(|byte| *byte == b'\n').next_back().unwrap_or_default();
    match (Farewell::parse(last), error) {
        (Some(farewell), _) => Failure::from(&farewell),
        (None, Some(error)) => Failure::new(Status::Io, format!("a connection broke: {error}")),
        (None, None) => Failure::new(Status::Refused, "the daemon closed a connection and gave no reason"),
    }
}
