//! The peer of a connection: an internet address, or the process behind a Unix socket.

use std::fmt;
use std::net::SocketAddr;

/// The other end of a connection, as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// An internet address; IPv4-mapped IPv6 addresses are unmapped.
    Inet(SocketAddr),
    /// A process on this machine (SO_PEERCRED, unix(7)).
    Unix(Credentials),
}

/// The process that connected a Unix socket, at the time of connect(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Process id; 0 if the process is in a pid namespace that the daemon cannot see.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

impl Peer {
    /// An internet peer; an IPv4-mapped IPv6 address is unmapped.
    pub fn inet(address: SocketAddr) -> Peer {
        Peer::Inet(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Inet(address) => address.fmt(f),
            // The process is in another container, so its id has no meaning here.
            Peer::Unix(Credentials { pid: 0, uid, .. }) => write!(f, "uid={uid}"),
            Peer::Unix(Credentials { pid, uid, .. }) => write!(f, "uid={uid},pid={pid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_peers_are_unmapped() {
        let peer = Peer::inet("[::ffff:192.0.2.7]:9".parse().unwrap());
        assert_eq!(peer.to_string(), "192.0.2.7:9");
    }
}
