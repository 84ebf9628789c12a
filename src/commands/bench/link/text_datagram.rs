//! A text endpoint over datagrams as a link of the bench: joins when it is opened, and sends each message as a
//! datagram. The caller decides when to renew the lease.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use upcall_client::socket::datagram::{DatagramSocket, is_full};
use upcall_wire::address::{Address, Transport};
use upcall_wire::farewell::Farewell;

use super::BenchLink;
use crate::commands::failure::Failure;
use crate::commands::text::link::membership::JOIN;
use crate::exit::Status;

/// The largest datagram, in bytes (udp(7)). With that much room, none is truncated.
const LARGEST: usize = 65_535;

/// How a challenge begins. It must be sent back to prove our address.
const CHALLENGE: &[u8] = b"join ";

pub(super) struct TextDatagrams {
    socket: DatagramSocket,
    /// The cookie of the last challenge, empty if there was none.
    cookie: Vec<u8>,
    failure: Option<Failure>,
}

impl TextDatagrams {
    /// Joins the daemon. Only the `first` link waits for a refusal, since a daemon that refuses one refuses all.
    pub(super) fn open(address: &Address, first: bool, timeout: Duration) -> Result<TextDatagrams, Failure> {
        let waits = first || address.transport() == Transport::UnixDatagram;
        let socket = DatagramSocket::open(address, if waits { timeout } else { Duration::ZERO }, JOIN)?;
        Ok(TextDatagrams { socket, cookie: Vec::new(), failure: None })
    }

    /// The failure after an error of the socket. The daemon may have sent the reason before, after upcalls that are not
    /// read yet.
    fn failure_after(&mut self, error: &io::Error) -> Failure {
        let mut buffer = vec![0; LARGEST];
        while let Ok(length) = self.socket.receive(&mut buffer) {
            if let Some(farewell) = Farewell::parse_datagram(&buffer[..length.unwrap_or(0)]) {
                return Failure::from(&farewell);
            }
        }
        Failure::new(Status::Refused, format!("the daemon does not receive datagrams any more: {error}"))
    }
}

impl AsFd for TextDatagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl BenchLink for TextDatagrams {
    fn send(&mut self, messages: &[u8], size: usize) -> io::Result<usize> {
        let mut sent = 0;
        for message in messages.chunks(size) {
            match self.socket.send(message) {
                Ok(()) => sent += message.len(),
                Err(error) if sent > 0 && is_full(&error) => break,
                Err(error) if is_full(&error) => return Err(ErrorKind::WouldBlock.into()),
                Err(error) => {
                    self.failure = Some(match error.raw_os_error() {
                        Some(libc::EMSGSIZE) => {
                            let message = format!("a message of {size} bytes does not fit into a datagram");
                            Failure::new(Status::BadData, message)
                        }
                        _ => self.failure_after(&error),
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
            match self.socket.receive(&mut buffer[filled..]) {
                Ok(Some(length)) if buffer[filled..filled + length].starts_with(CHALLENGE) => {
                    let challenge = &buffer[filled..filled + length];
                    self.cookie = challenge[CHALLENGE.len()..].to_vec();
                    // If there is no room, it is dropped: the network could lose it just as well.
                    let _ = self.socket.send(challenge);
                }
                Ok(length) => {
                    let datagram = &buffer[filled..filled + length.unwrap_or(0)];
                    if let Some(farewell) = Farewell::parse_datagram(datagram) {
                        self.failure = Some(Failure::from(&farewell));
                        break;
                    }
                    filled += datagram.len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && filled > 0 => break,
                Err(error) => {
                    if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
                        self.failure = Some(self.failure_after(&error));
                    }
                    return Err(error);
                }
            }
        }
        Ok(filled)
    }

    fn renew(&mut self) {
        // If there is no room, it is dropped: the network could lose it just as well. If the daemon is gone, the next
        // read fails.
        let _ = self.socket.send(JOIN);
    }

    fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    fn is_lossy(&self) -> bool {
        true
    }

    fn daemon_pid(&self) -> Option<u32> {
        None
    }
}

impl Drop for TextDatagrams {
    fn drop(&mut self) {
        // Otherwise the daemon would send upcalls here until the lease ends, which would distort the next run. Only a
        // Unix socket can lack room for this, and there the daemon notices that the peer's socket is closed.
        let _ = self.socket.send(&[b"bye ", self.cookie.as_slice()].concat());
    }
}
