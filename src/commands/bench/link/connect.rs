//! Makes the connections of a bench: the only place that chooses between transports and protocols.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::SockRef;
use upcall_client::socket::stream::StreamSocket;
use upcall_wire::address::{Address, Host, Transport};

use super::BenchLink;
use super::native_datagram::NativeDatagrams;
use super::native_stream::NativeStream;
use super::text_datagram::TextDatagrams;
use crate::cli::{BenchOptions, ClientProtocol};
use crate::commands::failure::Failure;
use crate::commands::native;
use crate::exit::Status;

/// Descriptors that are not links: the standard streams, epoll.
const RESERVED: u64 = 16;

/// How links are made.
pub(in crate::commands::bench) struct Connector<'a> {
    address: &'a Address,
    options: &'a BenchOptions,
    /// The token for native streams.
    token: Option<Vec<u8>>,
}

impl Connector<'_> {
    /// Reads the token, if the options or the environment name one and the protocol uses it.
    pub(in crate::commands::bench) fn new<'a>(
        address: &'a Address,
        options: &'a BenchOptions,
    ) -> Result<Connector<'a>, Failure> {
        let token = match options.protocol {
            ClientProtocol::Text => None,
            ClientProtocol::Native => native::builder::token(&options.credentials)?,
        };
        Ok(Connector { address, options, token })
    }

    /// Connects to the daemon `count` times. Calls `progress` before each time with the number of links made so far.
    pub(in crate::commands::bench) fn open(
        &self,
        count: usize,
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Box<dyn BenchLink>>, Failure> {
        let is_datagram = self.address.transport().is_datagram();
        // A native client over datagrams also has a timer and an epoll instance.
        let files = if is_datagram && self.options.protocol == ClientProtocol::Native { 3 } else { 1 };
        raise_limit(count as u64 * files + RESERVED)?;
        let mut links: Vec<Box<dyn BenchLink>> = Vec::new();
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
                made => failure.with_note(&format!("{made} of {count} connections were made")),
            })?);
        }
        Ok(links)
    }

    fn datagrams(&self, first: bool) -> Result<Box<dyn BenchLink>, Failure> {
        let timeout = self.options.timeout;
        Ok(match self.options.protocol {
            ClientProtocol::Text => Box::new(TextDatagrams::open(self.address, first, timeout)?),
            ClientProtocol::Native => {
                Box::new(NativeDatagrams::open(self.address, &self.options.credentials, timeout)?)
            }
        })
    }

    fn stream(&self, address: &Address) -> Result<(Box<dyn BenchLink>, Option<Address>), Failure> {
        let connection = StreamSocket::open(address, self.options.timeout)?;
        let peer = peer(&connection);
        Ok(match self.options.protocol {
            ClientProtocol::Text => (Box::new(connection), peer),
            ClientProtocol::Native => {
                let stream = NativeStream::open(connection, self.token.as_deref(), self.options.timeout)?;
                (Box::new(stream), peer)
            }
        })
    }
}

/// The resolved address of a TCP connection. A host name is resolved only once: thousands of queries would load a name
/// server, and might get different answers.
fn peer(socket: &StreamSocket) -> Option<Address> {
    let peer = SockRef::from(socket).peer_addr().ok()?.as_socket()?;
    Some(Address::Inet { transport: Transport::Tcp, host: Host::Ip(peer.ip()), port: peer.port() })
}

/// Raises the soft limit of open files if fewer than `wanted` are allowed.
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
        // If the limit cannot be read or raised, opening too many connections fails with the reason.
        _ => Ok(()),
    }
}
