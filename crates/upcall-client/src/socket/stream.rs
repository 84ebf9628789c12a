//! A nonblocking stream socket, connected to the daemon within a time limit.
//!
//! Every failure to connect maps to a variant of [`Error`] and contains advice for the user. This module knows nothing
//! about the protocol.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};
use upcall_wire::address::{Address, Host, Transport, UnixName};

use crate::Error;

/// The default time limit for making a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A nonblocking stream to the daemon.
#[derive(Debug)]
pub struct StreamSocket {
    socket: Socket,
}

impl StreamSocket {
    /// Connects to a TCP or Unix stream address. Blocks for at most `timeout`, apart from the resolution of a host
    /// name.
    ///
    /// If a host has several addresses, each is tried in turn. On TCP connections, Nagle's algorithm is disabled and
    /// keepalive is enabled.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a datagram address; otherwise the reason why the daemon cannot be reached.
    pub fn open(address: &Address, timeout: Duration) -> Result<StreamSocket, Error> {
        let socket = match address {
            Address::Inet { transport: Transport::Tcp, host, port } => open_tcp(host, *port, timeout),
            Address::Unix { transport: Transport::Unix, name } => {
                open_unix(name, timeout).map_err(|error| cannot_connect(name, &error))
            }
            _ => Err(Error::Invalid(format!("{address} is not a stream"))),
        }?;
        socket
            .set_nonblocking(true)
            .map_err(|error| Error::Broken(format!("cannot set up the connection to {address}: {error}")))?;
        Ok(StreamSocket { socket })
    }

    /// Reads the bytes that are available. Returns 0 at the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of read(2), among them [`ErrorKind::WouldBlock`].
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(buffer)
    }

    /// Writes as much as there is room for.
    ///
    /// # Errors
    ///
    /// Those of write(2), among them [`ErrorKind::WouldBlock`].
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.socket).write(bytes)
    }

    /// Shuts down the sending side, and keeps receiving.
    ///
    /// # Errors
    ///
    /// Those of shutdown(2).
    pub fn half_close(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }
}

impl AsFd for StreamSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Resolves a host to all of its addresses.
pub(super) fn resolve(host: &Host, port: u16) -> Result<Vec<SocketAddr>, Error> {
    match host {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, port)]),
        Host::Name(name) => match (name.as_str(), port).to_socket_addrs().map(Iterator::collect) {
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(Error::UnknownHost(format!("unknown host {name}: {error}"))),
        },
    }
}

/// The error for a host without an address.
pub(super) fn no_address() -> Error {
    Error::UnknownHost("the host has no address".into())
}

/// The address of a Unix socket in the kernel's format.
pub(super) fn unix_address(name: &UnixName) -> io::Result<SockAddr> {
    match name {
        UnixName::Path(path) => SockAddr::unix(path),
        UnixName::Abstract(name) => SockAddr::unix(std::ffi::OsStr::from_bytes(&[b"\0", name.as_slice()].concat())),
    }
}

fn open_tcp(host: &Host, port: u16, timeout: Duration) -> Result<Socket, Error> {
    let deadline = Instant::now() + timeout;
    let candidates = resolve(host, port)?;
    let mut last = None;
    for (i, &candidate) in candidates.iter().enumerate() {
        // Each address gets its share of the time left, so that one that drops packets does not use up the time of the
        // others.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(candidates.len() - i).unwrap_or(u32::MAX);
        match try_tcp(candidate, share.max(Duration::from_millis(1))) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(cannot_connect(&candidate, &error)),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

fn try_tcp(address: SocketAddr, timeout: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.connect_timeout(&address.into(), timeout)?;
    // If nothing listens on a local port in the ephemeral range, the connection may have been made with itself.
    if socket.local_addr()?.as_socket() == Some(address) {
        return Err(Errno::ECONNREFUSED.into());
    }
    socket.set_tcp_nodelay(true)?;
    // A peer that disappeared is detected after 45 + 3 × 15 seconds.
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(45)).with_interval(Duration::from_secs(15)).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}

fn open_unix(name: &UnixName, timeout: Duration) -> io::Result<Socket> {
    let address = unix_address(name)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // With a full accept queue, connect(2) blocks for at most the send timeout (unix(7)).
    socket.set_write_timeout(Some(timeout.max(Duration::from_millis(1))))?;
    socket.connect(&address)?;
    socket.set_write_timeout(None)?;
    Ok(socket)
}

/// The error for a connection that could not be made, over any transport.
pub(super) fn cannot_connect(place: &impl fmt::Display, error: &io::Error) -> Error {
    let (variant, advice): (fn(String) -> Error, _) = match (error.kind(), error.raw_os_error().map(Errno::from_raw)) {
        (ErrorKind::TimedOut | ErrorKind::WouldBlock, _) => {
            return Error::TimedOut(format!(
                "cannot connect to {place}: no answer in time (is the address right? is there a firewall in between?)"
            ));
        }
        (ErrorKind::NotFound, _) => (Error::Unreachable, "there is no such socket; is upcalld running?"),
        (ErrorKind::ConnectionRefused, _) => (Error::Unreachable, "nothing listens there; is upcalld running?"),
        (ErrorKind::PermissionDenied, _) => {
            (Error::Denied, "the socket's mode or group, or a firewall, does not admit this user")
        }
        // The connection was made, and broke before it could be used.
        (ErrorKind::ConnectionReset, _) => (Error::Broken, "it closed the connection immediately"),
        (_, Some(Errno::EPROTOTYPE)) => (Error::Unreachable, "the socket has another type; is it the right transport?"),
        _ => (Error::Unreachable, "is the address right?"),
    };
    variant(format!("cannot connect to {place}: {error} ({advice})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    fn open(url: &str) -> Result<(), Error> {
        let address = Address::parse_url(url, None).unwrap();
        StreamSocket::open(&address, Duration::from_millis(200)).map(drop)
    }

    #[test]
    fn streams_are_reached_on_every_transport() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(open(&format!("tcp://{}", tcp.local_addr().unwrap())), Ok(()));
        assert_eq!(open(&format!("tcp://localhost:{}", tcp.local_addr().unwrap().port())), Ok(()));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _unix = UnixListener::bind(&path).unwrap();
        assert_eq!(open(&format!("unix://{}", path.display())), Ok(()));
    }

    #[test]
    fn failures_are_distinguished() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert!(matches!(open(&format!("tcp://127.0.0.1:{port}")), Err(Error::Unreachable(_))));
        assert!(matches!(open("tcp://no-such-host.invalid:1"), Err(Error::UnknownHost(_))));
        assert!(matches!(open("unix:///nonexistent/upcalld.sock"), Err(Error::Unreachable(_))));
        assert!(matches!(open("unix://@upcalld-nothing-listens-here"), Err(Error::Unreachable(_))));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _datagram = UnixDatagram::bind(&path).unwrap();
        assert!(matches!(open(&format!("unix://{}", path.display())), Err(Error::Unreachable(_))));
        assert!(matches!(cannot_connect(&"x", &Errno::EACCES.into()), Error::Denied(_)));
    }

    #[test]
    fn a_full_queue_times_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let address = Address::parse_url(&format!("unix://{}", path.display()), None).unwrap();
        let mut queued = Vec::new();
        let error = loop {
            match StreamSocket::open(&address, Duration::from_millis(20)) {
                Ok(connection) => queued.push(connection),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::TimedOut(_)), "{error}");
    }
}
