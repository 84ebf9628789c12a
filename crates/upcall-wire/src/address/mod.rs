//! Transports and addresses: `tcp://host:port`, `udp://host:port`, `unix:///path`, `unix-datagram:///path`.
//!
//! This module only parses and prints an [`Address`]. It uses the address types of `std::net`, but no sockets.

mod error;
mod parse;
mod peer;
mod transport;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub use error::AddressError;
pub use peer::{Credentials, Peer};
pub use transport::Transport;

/// The port of the practicum's server, and the default for an address without a port.
pub const DEFAULT_PORT: u16 = 4141;

/// Where the daemon listens, and the client connects, by default.
pub const DEFAULT_URL: &str = "tcp://127.0.0.1:4141";

/// Where the packaged daemon has its Unix stream socket.
pub const DEFAULT_SOCKET: &str = "/run/upcalld/upcalld.sock";

/// The longest path or abstract name of a Unix socket, in bytes: `sun_path` without its NUL (unix(7)).
pub const MAX_UNIX_NAME: usize = 107;

/// A host, as written. The code that binds or connects resolves names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A name, in lower case.
    Name(String),
}

/// The name of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UnixName {
    /// An absolute path in the file system.
    Path(PathBuf),
    /// A name in the abstract namespace (unix(7)), without its leading NUL; written with a leading `@`.
    Abstract(Vec<u8>),
}

/// Where a listener listens, or a client connects: a transport and a place on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP or UDP.
    Inet {
        /// `Tcp` or `Udp`.
        transport: Transport,
        /// The host.
        host: Host,
        /// The port. For a listener, 0 lets the kernel choose a free one.
        port: u16,
    },
    /// A Unix stream or datagram socket.
    Unix {
        /// `Unix` or `UnixDatagram`.
        transport: Transport,
        /// The socket's name.
        name: UnixName,
    },
}

impl Address {
    /// The transport.
    pub const fn transport(&self) -> Transport {
        match self {
            Address::Inet { transport, .. } | Address::Unix { transport, .. } => *transport,
        }
    }

    /// Whether only this machine can reach the address. Among host names, only `localhost` counts as loopback (RFC
    /// 6761).
    pub fn is_local(&self) -> bool {
        match self {
            Address::Inet { host: Host::Ip(ip), .. } => ip.to_canonical().is_loopback(),
            Address::Inet { host: Host::Name(name), .. } => name == "localhost",
            Address::Unix { .. } => true,
        }
    }

    /// The part after the transport, as [`Address::parse`] reads it.
    pub fn place(&self) -> String {
        match self {
            Address::Inet { host: Host::Ip(ip), port, .. } => SocketAddr::new(*ip, *port).to_string(),
            Address::Inet { host: Host::Name(name), port, .. } => format!("{name}:{port}"),
            Address::Unix { name, .. } => name.to_string(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.transport(), self.place())
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnixName::Path(path) => write!(f, "{}", path.display()),
            UnixName::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_means_loopback_or_unix() {
        for (url, local) in [
            ("tcp://127.9.9.9:1", true),
            ("tcp://[::1]:1", true),
            ("tcp://[::ffff:127.0.0.1]:1", true),
            ("tcp://0.0.0.0:1", false),
            ("tcp://[::]:1", false),
            ("tcp://localhost:1", true),
            ("tcp://lab:1", false),
            ("unix://@x", true),
        ] {
            assert_eq!(Address::parse_url(url, None).unwrap().is_local(), local, "{url}");
        }
    }
}
