//! A connection of the bench, whatever the transport: the one place of the bench that knows transports.
//!
//! A transport is an implementation of [`Link`], and a line in [`open`].

use std::io;
use std::os::fd::AsFd;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use socket2::SockRef;

use super::datagrams::Datagrams;
use super::native;
use crate::cli::{Bench, Protocol};
use crate::commands::failure::Failure;
use crate::commands::programs;
use crate::exit::Status;
use upcall_client::socket::stream::StreamSocket;
use upcall_wire::address::{Address, Host, Transport};
use upcall_wire::farewell::Farewell;

/// Files that are not links: standard streams, epoll.
const RESERVED: u64 = 16;

/// Registered with the daemon, or about to be: what is sent here is an input, and what is read here are upcalls.
pub(super) trait Link: AsFd {
    /// Sends messages of `size` bytes each that stand one behind the other, as much of them as can be sent at once;
    /// returns how many bytes. A stream may end within a message; a datagram is a message, and never does.
    fn send(&mut self, messages: &[u8], size: usize) -> io::Result<usize>;

    /// Reads what there is, one behind the other; 0 is the end. A datagram link has no end, and never returns 0.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Asks to stay registered, or to be, where that is for a time only. It may get lost.
    fn renew(&mut self) {}

    /// Why it is over, where that is known: nothing will be sent or received any more.
    fn over(&mut self) -> Option<Failure> {
        None
    }

    /// Whether what does not come may be lost, rather than late: also, whether the registration is for a time only.
    fn loses(&self) -> bool;

    /// The process id of the daemon, where the kernel knows it.
    fn daemon(&self) -> Option<u32>;
}

impl Link for StreamSocket {
    fn send(&mut self, messages: &[u8], _: usize) -> io::Result<usize> {
        self.write(messages)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        StreamSocket::read(self, buffer)
    }

    fn loses(&self) -> bool {
        false
    }

    fn daemon(&self) -> Option<u32> {
        // Of a process that is not on this machine, or not in our namespace, the id is 0.
        let peer = getsockopt(self, PeerCredentials).ok()?;
        u32::try_from(peer.pid()).ok().filter(|pid| *pid != 0)
    }
}

/// How links are made.
pub(super) struct Plan<'a> {
    pub(super) address: &'a Address,
    pub(super) options: &'a Bench,
    /// What native streams say to be let in.
    pub(super) token: Option<Vec<u8>>,
}

/// The token that the options or the environment name, if any is wanted.
pub(super) fn token(options: &Bench) -> Result<Option<Vec<u8>>, Failure> {
    match options.protocol {
        Protocol::Text => Ok(None),
        Protocol::Native => programs::token(&options.credentials),
    }
}

impl Plan<'_> {
    /// Connects to the daemon `count` times, and tells `progress` how often it has.
    pub(super) fn open(&self, count: usize, mut progress: impl FnMut(usize)) -> Result<Vec<Box<dyn Link>>, Failure> {
        let is_datagram = self.address.transport().is_datagram();
        // A client over datagrams has a timer and an epoll instance of its own.
        let files = if is_datagram && self.options.protocol == Protocol::Native { 3 } else { 1 };
        raise_limit(count as u64 * files + RESERVED)?;
        let mut links: Vec<Box<dyn Link>> = Vec::new();
        let mut resolved = None;
        while links.len() < count {
            progress(links.len());
            let link = if is_datagram {
                self.datagrams(links.is_empty())
            } else {
                self.stream(resolved.as_ref().unwrap_or(self.address)).map(|(link, peer)| {
                    resolved = resolved.take().or(peer);
                    link
                })
            };
            links.push(link.map_err(|failure| match links.len() {
                0 => failure,
                made => failure.and(&format!("{made} of {count} connections were made")),
            })?);
        }
        Ok(links)
    }

    fn datagrams(&self, first: bool) -> Result<Box<dyn Link>, Failure> {
        let timeout = self.options.timeout;
        Ok(match self.options.protocol {
            Protocol::Text => Box::new(Datagrams::open(self.address, first, timeout)?),
            Protocol::Native => Box::new(native::Datagrams::open(self.address, &self.options.credentials, timeout)?),
        })
    }

    fn stream(&self, address: &Address) -> Result<(Box<dyn Link>, Option<Address>), Failure> {
        let connection = StreamSocket::open(address, self.options.timeout)?;
        let peer = peer(&connection);
        Ok(match self.options.protocol {
            Protocol::Text => (Box::new(connection), peer),
            Protocol::Native => {
                let stream = native::Stream::open(connection, self.token.as_deref(), self.options.timeout)?;
                (Box::new(stream), peer)
            }
        })
    }
}

/// Where a TCP connection went. A name is resolved once: thousands of questions would be asked of a stranger, and might
/// be answered differently.
fn peer(link: &StreamSocket) -> Option<Address> {
    let peer = SockRef::from(link).peer_addr().ok()?.as_socket()?;
    Some(Address::Inet { transport: Transport::Tcp, host: Host::Ip(peer.ip()), port: peer.port() })
}

fn raise_limit(wanted: u64) -> Result<(), Failure> {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < wanted {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(soft.max(hard))
    });
    match limit {
        Ok(limit) if limit < wanted => Err(Failure::new(
            Status::CannotCreate,
            format!("{limit} files may be open at once, {wanted} are needed; raise the hard limit (ulimit -Hn)"),
        )),
        // Where the limit cannot be known or raised, opening says so.
        _ => Ok(()),
    }
}

/// Why a connection ended that should not have.
pub(super) fn ended(tail: &[u8], error: Option<&io::Error>) -> Failure {
    let last = tail.split_inclusive(|byte| *byte == b'\n').next_back().unwrap_or_default();
    match (Farewell::parse(last), error) {
        (Some(farewell), _) => Failure::from(&farewell),
        (None, Some(error)) => Failure::new(Status::Io, format!("a connection broke: {error}")),
        (None, None) => Failure::new(Status::Refused, "the daemon closed a connection and did not say why"),
    }
}
