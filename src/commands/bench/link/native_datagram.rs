//! A link of the bench that speaks native over datagrams: the client library, with all that acknowledged delivery takes.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::Link;
use crate::cli::Credentials;
use crate::commands::failure::Failure;
use crate::commands::native;
use upcall_client::{Client, Error, Item};
use upcall_wire::address::Address;

/// A client over datagrams. What it does not hold at once stays with it, and rings again.
pub(in crate::commands::bench) struct Datagrams {
    client: Client,
    /// An upcall that did not fit.
    left: Option<Vec<u8>>,
    over: Option<Failure>,
}

impl Datagrams {
    pub(in crate::commands::bench) fn open(
        address: &Address,
        credentials: &Credentials,
        timeout: Duration,
    ) -> Result<Datagrams, Failure> {
        let builder = native::builder(address, credentials).connect_timeout(timeout).no_reconnect();
        Ok(Datagrams { client: builder.connect()?, left: None, over: None })
    }

    fn fail(&mut self, error: Error) -> io::Error {
        self.over = Some(error.into());
        ErrorKind::Other.into()
    }
}

impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

impl Link for Datagrams {
    fn send(&mut self, messages: &[u8], size: usize) -> io::Result<usize> {
        let mut sent = 0;
        for message in messages.chunks(size) {
            match self.client.queue("", message) {
                Ok(Some(_)) => sent += message.len(),
                Ok(None) => break,
                Err(error) => return Err(self.fail(error)),
            }
        }
        self.client.absorb();
        // What has come with that, upcalls or receipts that make room, is looked at in the next turn.
        self.client.wake();
        if sent == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(sent) }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            let payload = match self.left.take() {
                Some(left) => left,
                None => match self.client.try_next() {
                    Ok(Some(Item::Upcall(upcall))) => upcall.payload,
                    Ok(Some(Item::SendResult { result: Err(error), .. })) | Err(error) => return Err(self.fail(error)),
                    Ok(Some(_)) => continue,
                    Ok(None) if filled == 0 => return Err(ErrorKind::WouldBlock.into()),
                    Ok(None) => return Ok(filled),
                },
            };
            let Some(room) = buffer.get_mut(filled..filled + payload.len()) else {
                self.left = Some(payload);
                self.client.wake();
                return Ok(filled);
            };
            room.copy_from_slice(&payload);
            filled += payload.len();
        }
    }

    fn over(&mut self) -> Option<Failure> {
        self.over.take()
    }

    fn loses(&self) -> bool {
        false
    }

    fn daemon(&self) -> Option<u32> {
        None
    }
}
