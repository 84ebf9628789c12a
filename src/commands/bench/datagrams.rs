//! A link of the bench over datagrams: joins when it is made, and sends a message a datagram.
//! When to renew its lease is for others to say.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::link::Link;
use crate::commands::failure::Failure;
use crate::commands::session::JOIN;
use crate::exit::Status;
use upcall_client::socket::datagram::{DatagramSocket, is_full};
use upcall_wire::address::{Address, Transport};
use upcall_wire::farewell::Farewell;

/// No datagram is larger (udp(7)): with that much room, none is cut short.
const LARGEST: usize = 65_535;

/// What a daemon answers a stranger with, who sends it back.
const CHALLENGE: &[u8] = b"join ";

pub(super) struct Datagrams {
    mailbox: DatagramSocket,
    /// What it proved its address with, if it had to.
    cookie: Vec<u8>,
    over: Option<Failure>,
}

impl Datagrams {
    /// Joins the daemon. Only the `first` waits for a refusal: what refuses one refuses all.
    pub(super) fn open(address: &Address, first: bool, timeout: Duration) -> Result<Datagrams, Failure> {
        let patient = first || address.transport() == Transport::UnixDatagram;
        let mailbox = DatagramSocket::open(address, if patient { timeout } else { Duration::ZERO }, JOIN)?;
        Ok(Datagrams { mailbox, cookie: Vec::new(), over: None })
    }

    /// Nobody is there. Why, the daemon may have said before, behind upcalls that nobody has read yet.
    fn gone(&mut self, error: &io::Error) -> Failure {
        let mut buffer = vec![0; LARGEST];
        while let Ok(length) = self.mailbox.receive(&mut buffer) {
            if let Some(farewell) = Farewell::parse_datagram(&buffer[..length.unwrap_or(0)]) {
                return Failure::from(&farewell);
            }
        }
        Failure::new(Status::Refused, format!("nobody takes datagrams there any more: {error}"))
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
                Err(error) => {
                    self.over = Some(match error.raw_os_error() {
                        Some(libc::EMSGSIZE) => {
                            let message = format!("a message of {size} bytes does not fit into a datagram");
                            Failure::new(Status::BadData, message)
                        }
                        _ => self.gone(&error),
                    });
                    return Err(error);
                }
            }
        }
        Ok(sent)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while buffer.len() - filled >= LARGEST {
            match self.mailbox.receive(&mut buffer[filled..]) {
                Ok(Some(length)) if buffer[filled..filled + length].starts_with(CHALLENGE) => {
                    let challenge = &buffer[filled..filled + length];
                    self.cookie = challenge[CHALLENGE.len()..].to_vec();
                    // Where it finds no room it is lost, as it may be on the way.
                    let _ = self.mailbox.send(challenge);
                }
                Ok(length) => {
                    let datagram = &buffer[filled..filled + length.unwrap_or(0)];
                    if let Some(farewell) = Farewell::parse_datagram(datagram) {
                        self.over = Some(Failure::from(&farewell));
                        break;
                    }
                    filled += datagram.len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && filled > 0 => break,
                Err(error) => {
                    if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
                        self.over = Some(self.gone(&error));
                    }
                    return Err(error);
                }
            }
        }
        Ok(filled)
    }

    fn renew(&mut self) {
        // Where it finds no room it is lost, as it may be on the way; where nobody is there, reading says so.
        let _ = self.mailbox.send(JOIN);
    }

    fn over(&mut self) -> Option<Failure> {
        self.over.take()
    }

    fn loses(&self) -> bool {
        true
    }

    fn daemon(&self) -> Option<u32> {
        None
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        // Else it would be sent upcalls until its lease ends, and the next run be measured with them. Where there is no room
        // for it, it is a Unix socket, and the daemon finds out by itself that nobody has it any more.
        let _ = self.mailbox.send(&[b"bye ", self.cookie.as_slice()].concat());
    }
}
