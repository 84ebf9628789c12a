//! Transports and addresses: parse and print `tcp://host:port`, `udp://host:port`, `unix:///path`, `unix-datagram:///path`.
//!
//! Knows no socket beyond the types of `std::net`; whoever binds or connects turns an [`Address`] into one.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

/// The practicum's port, and the default wherever an address names none.
pub const DEFAULT_PORT: u16 = 4141;

/// Where the daemon listens, and the client connects, when nothing else is said.
pub const DEFAULT_URL: &str = "tcp://127.0.0.1:4141";

/// Where the packaged daemon has its Unix stream socket.
pub const DEFAULT_SOCKET: &str = "/run/upcalld/upcalld.sock";

/// The longest path or abstract name of a Unix socket, in bytes: `sun_path` without its NUL (unix(7)).
pub const MAX_UNIX_NAME: usize = 107;

/// How bytes travel between an endpoint and the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// UDP over IPv4 or IPv6.
    Udp,
    /// Unix domain stream sockets.
    Unix,
    /// Unix domain datagram sockets.
    UnixDatagram,
}

impl Transport {
    /// Every transport, in the order in which documents list them.
    pub const ALL: [Transport; 4] = [Transport::Tcp, Transport::Udp, Transport::Unix, Transport::UnixDatagram];

    /// The name in configuration files, options and URLs.
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Unix => "unix",
            Transport::UnixDatagram => "unix-datagram",
        }
    }

    /// Whether messages are datagrams, and registrations are leases.
    pub const fn is_datagram(self) -> bool {
        matches!(self, Transport::Udp | Transport::UnixDatagram)
    }

    /// Whether addresses are host and port, rather than a path or an abstract name.
    pub const fn is_inet(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Udp)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Transport {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Transport::ALL.into_iter().find(|transport| transport.name() == text).ok_or_else(|| {
            AddressError(format!("unknown transport \"{text}\"; it is one of tcp, udp, unix, unix-datagram"))
        })
    }
}

/// A host as it was written: an IP address, or a name that somebody has yet to resolve.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A name.
    Name(String),
}

/// The name of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UnixName {
    /// A path in the file system.
    Path(PathBuf),
    /// A name in the abstract namespace (unix(7)), without its leading NUL; written with a leading `@`.
    Abstract(Vec<u8>),
}

/// Where a listener listens, or where a client connects: a transport and a place on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP or UDP.
    Inet {
        /// `Tcp` or `Udp`.
        transport: Transport,
        /// The host.
        host: Host,
        /// The port; 0 asks the kernel for a free one.
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

/// What is wrong with an address, in words that say what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}

impl Address {
    /// Parses the part behind the transport: `host:port`, `[v6]:port`, a path, or `@name`. A missing port is
    /// `default_port`, or an error where there is none.
    pub fn parse(transport: Transport, text: &str, default_port: Option<u16>) -> Result<Address, AddressError> {
        if transport.is_inet() {
            let (host, port) = parse_host_port(text, default_port)?;
            Ok(Address::Inet { transport, host, port })
        } else {
            Ok(Address::Unix { transport, name: parse_unix_name(text)? })
        }
    }

    /// Parses a URL such as `tcp://127.0.0.1:4141`; a missing port is `default_port`, or an error where there is none.
    pub fn parse_url(text: &str, default_port: Option<u16>) -> Result<Address, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            AddressError(format!("\"{text}\" is not a URL; write tcp://host:port, unix:///path or unix://@name"))
        })?;
        let transport: Transport = scheme.parse()?;
        let rest = if transport.is_inet() { rest.strip_suffix('/').unwrap_or(rest) } else { rest };
        Address::parse(transport, rest, default_port)
    }

    /// The transport.
    pub const fn transport(&self) -> Transport {
        match self {
            Address::Inet { transport, .. } | Address::Unix { transport, .. } => *transport,
        }
    }

    /// Whether only this machine can reach it. A host name is not taken to be loopback, except `localhost` (RFC 6761).
    pub fn is_local(&self) -> bool {
        match self {
            Address::Inet { host: Host::Ip(ip), .. } => ip.to_canonical().is_loopback(),
            Address::Inet { host: Host::Name(name), .. } => name == "localhost",
            Address::Unix { .. } => true,
        }
    }

    /// The part behind the transport, as [`Address::parse`] reads it.
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

fn parse_host_port(text: &str, default_port: Option<u16>) -> Result<(Host, u16), AddressError> {
    let (host, port) = match text.rsplit_once(':') {
        _ if text.starts_with('[') => {
            let (host, rest) = text[1..].split_once(']').ok_or_else(|| {
                AddressError(format!("\"{text}\" has no closing bracket; write [::1]:{DEFAULT_PORT}"))
            })?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => {
                    return Err(AddressError(format!(
                        "\"{rest}\" behind the bracket is not a port; write [{host}]:{DEFAULT_PORT}"
                    )));
                }
            }
        }
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => {
            return Err(AddressError(format!("an IPv6 address needs brackets; write [{host}]:{port}")));
        }
        Some((host, _)) if host.contains(':') => {
            return Err(AddressError(format!("an IPv6 address needs brackets; write [{text}]:{DEFAULT_PORT}")));
        }
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let port = match (port, default_port) {
        (Some(digits), _) => digits
            .parse()
            .ok()
            .filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))
            .ok_or_else(|| AddressError(format!("\"{digits}\" is not a port; it is a number from 0 to 65535")))?,
        (None, Some(port)) => port,
        (None, None) => return Err(AddressError(format!("\"{text}\" has no port; write {text}:{DEFAULT_PORT}"))),
    };
    Ok((parse_host(host, text.starts_with('['))?, port))
}

fn parse_host(host: &str, bracketed: bool) -> Result<Host, AddressError> {
    match host.parse::<IpAddr>() {
        Ok(ip) if bracketed == ip.is_ipv6() => return Ok(Host::Ip(ip)),
        Ok(_) => return Err(AddressError(format!("brackets are for IPv6 addresses; write {host} without them"))),
        Err(_) if bracketed => return Err(AddressError(format!("\"{host}\" is not an IPv6 address"))),
        Err(_) => {}
    }
    // A name of digits and dots only is a mistyped IPv4 address, and resolvers read it in surprising ways (inet_aton(3)).
    let name_like = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && host.bytes().any(|b| b.is_ascii_alphabetic());
    match host {
        "" => Err(AddressError(format!("the host is missing; write {}:{DEFAULT_PORT}", Ipv4Addr::LOCALHOST))),
        "*" => Err(AddressError("\"*\" is not an address; write 0.0.0.0 for all of IPv4, or [::] for IPv6".into())),
        _ if name_like => Ok(Host::Name(host.to_ascii_lowercase())),
        _ => Err(AddressError(format!("\"{host}\" is neither an IP address nor a host name"))),
    }
}

fn parse_unix_name(text: &str) -> Result<UnixName, AddressError> {
    if text.is_empty() || text == "@" {
        return Err(AddressError("the name of the socket is missing; write an absolute path or @name".into()));
    }
    if text.contains('\0') {
        return Err(AddressError("the name of a socket cannot hold a NUL byte".into()));
    }
    let bytes = text.strip_prefix('@').unwrap_or(text).as_bytes();
    if bytes.len() > MAX_UNIX_NAME {
        return Err(AddressError(format!(
            "the name of the socket is {} bytes long; the kernel takes {MAX_UNIX_NAME} (unix(7))",
            bytes.len()
        )));
    }
    match text.as_bytes()[0] {
        b'@' => Ok(UnixName::Abstract(bytes.to_vec())),
        b'/' => Ok(UnixName::Path(PathBuf::from(OsStr::from_bytes(bytes)))),
        _ => Err(AddressError(format!(
            "\"{text}\" is a relative path; write an absolute one, or @name for an abstract socket"
        ))),
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// An internet address; IPv4-mapped IPv6 addresses are unmapped.
    Inet(SocketAddr),
    /// A process on this machine, as the kernel vouches for it (SO_PEERCRED, unix(7)).
    Unix(Credentials),
}

/// Who connected a Unix socket, at the time it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Process id; 0 where it is of another pid namespace.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

impl Peer {
    /// An internet peer, IPv4-mapped addresses unmapped.
    pub fn inet(address: SocketAddr) -> Peer {
        Peer::Inet(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Inet(address) => address.fmt(f),
            // A process that ours cannot see: it is in another container.
            Peer::Unix(Credentials { pid: 0, uid, .. }) => write!(f, "uid={uid}"),
            Peer::Unix(Credentials { pid, uid, .. }) => write!(f, "uid={uid},pid={pid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_round_trip() {
        for url in [
            "tcp://127.0.0.1:4141",
            "tcp://[::1]:0",
            "udp://[::]:4141",
            "tcp://upcall-server:4141",
            "unix:///run/upcalld/upcalld.sock",
            "unix://@lab",
            "unix-datagram:///tmp/x",
        ] {
            assert_eq!(Address::parse_url(url, None).unwrap().to_string(), url);
        }
    }

    #[test]
    fn a_missing_port_is_the_default_where_there_is_one() {
        assert_eq!(Address::parse_url("tcp://[::1]", Some(7)).unwrap().to_string(), "tcp://[::1]:7");
        assert_eq!(Address::parse_url("tcp://lab/", Some(7)).unwrap().to_string(), "tcp://lab:7");
        let error = Address::parse(Transport::Tcp, "lab", None).unwrap_err();
        assert_eq!(error.to_string(), "\"lab\" has no port; write lab:4141");
    }

    #[test]
    fn wrong_addresses_say_what_to_write() {
        for (url, words) in [
            ("127.0.0.1:4141", "is not a URL"),
            ("tpc://h:1", "unknown transport \"tpc\""),
            ("tcp://::1:4141", "write [::1]:4141"),
            ("tcp://[::1:4141", "closing bracket"),
            ("tcp://[127.0.0.1]:1", "without them"),
            ("tcp://[lab]:1", "not an IPv6 address"),
            ("tcp://h:+1", "not a port"),
            ("tcp://h:65536", "not a port"),
            ("tcp://:1", "host is missing"),
            ("tcp://*:1", "0.0.0.0"),
            ("tcp://300.0.0.1:1", "neither"),
            ("tcp://a b:1", "neither"),
            ("unix://", "missing"),
            ("unix://run/x", "absolute"),
        ] {
            let error = Address::parse_url(url, None).unwrap_err().to_string();
            assert!(error.contains(words), "{url}: {error}");
        }
        assert!(Address::parse(Transport::Unix, &"/x".repeat(54), None).is_err());
    }

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

    #[test]
    fn mapped_peers_are_unmapped() {
        let peer = Peer::inet("[::ffff:192.0.2.7]:9".parse().unwrap());
        assert_eq!(peer.to_string(), "192.0.2.7:9");
    }
}
