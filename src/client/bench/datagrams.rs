//! A link of the bench over datagrams: joins when it is made, and sends a message a datagram.
//! When to renew its lease is for others to say.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::link::Link;
use crate::address::{Address, Transport};
use crate::client::failure::Failure;
use crate::client::mailbox::{Mailbox, is_full};
use crate::client::session::JOIN;

/// No datagram is larger (udp(7)): with that much room, none is cut short.
const LARGEST: usize = 65_535;

/// What a daemon answers a stranger with, who sends it back.
const CHALLENGE: &[u8] = b"join ";

pub(super) struct Datagrams {
    mailbox: Mailbox,
}

impl Datagrams {
    /// Joins the daemon. Only the `first` waits for a refusal: what refuses one refuses all.
    pub(super) fn open(address: &Address, first: bool, timeout: Duration) -> Result<Datagrams, Failure> {
        let patient = first || address.transport() == Transport::UnixDatagram;
        let mailbox = Mailbox::open(address, if patient { timeout } else { Duration::ZERO }, JOIN)?;
        Ok(Datagrams { mailbox })
    }
}

impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mailbox.as_fd()
    }
}

impl Link for Datagrams {
    fn send(&mut self, messages: &[u8], size: usize) -> io::Result<usize> {
        let mut sent = 0;
        for message in messages.chunks(size) {
            match self.mailbox.send(message) {
                Ok(()) => sent += message.len(),
                Err(error) if sent > 0 && is_full(&error) => break,
                Err(error) if is_full(&error) => return Err(ErrorKind::WouldBlock.into()),
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while buffer.len() - filled >= LARGEST {
            match self.mailbox.receive(&mut buffer[filled..]) {
                Ok(Some(length)) if buffer[filled..filled + length].starts_with(CHALLENGE) => {
                    self.mailbox.send(&buffer[filled..filled + length])?;
                }
                Ok(length) => filled += length.unwrap_or(0),
                Err(error) if error.kind() == ErrorKind::WouldBlock && filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn renew(&mut self) {
        // Where it finds no room it is lost, as it may be on the way; where nobody is there, reading says so.
        let _ = self.mailbox.send(JOIN);
    }

    fn loses(&self) -> bool {
        true
    }

    fn daemon(&self) -> Option<u32> {
        None
    }
}
