//! A native endpoint over datagrams as a link of the bench. It uses the client library, which implements acknowledged
//! delivery.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use upcall_client::{Client, Error, Item};
use upcall_wire::address::Address;

use super::BenchLink;
use crate::cli::CredentialOptions;
use crate::commands::failure::Failure;
use crate::commands::native::builder::builder;

/// A client over datagrams.
pub(super) struct NativeDatagrams {
    client: Client,
    /// A payload that did not fit into the caller's buffer.
    left: Option<Vec<u8>>,
    failure: Option<Failure>,
}

impl NativeDatagrams {
    /// Registers with the daemon.
    pub(super) fn open(
        address: &Address,
        credentials: &CredentialOptions,
        timeout: Duration,
    ) -> Result<NativeDatagrams, Failure> {
        let builder = builder(address, credentials).connect_timeout(timeout).no_reconnect();
        Ok(NativeDatagrams { client: builder.connect()?, left: None, failure: None })
    }

    fn fail(&mut self, error: Error) -> io::Error {
        self.failure = Some(error.into());
        ErrorKind::Other.into()
    }
}

impl AsFd for NativeDatagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

impl BenchLink for NativeDatagrams {
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
        // The next turn reads what arrived meanwhile: upcalls, or receipts that make room.
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

    fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    fn is_lossy(&self) -> bool {
        false
    }

    fn daemon_pid(&self) -> Option<u32> {
        None
    }
}
