//! A connection to the daemon: a stream, made within a time limit, nonblocking from then on.
//!
//! Turns what can go wrong on the way into exit statuses. Knows nothing of what is said over it.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::failure::Failure;
use crate::address::{Address, Host, Transport, UnixName};
use crate::exit::Status;

/// How long a connection may take to be made.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream to the daemon.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
}

impl Connection {
    /// Connects to a TCP or Unix stream address.
    pub(super) fn open(address: &Address, timeout: Duration) -> Result<Connection, Failure> {
        let socket = match address {
            Address::Inet { transport: Transport::Tcp, host, port } => open_tcp(host, *port, timeout),
            Address::Unix { transport: Transport::Unix, name } => {
                open_unix(name, timeout).map_err(|error| cannot_connect(name, &error))
            }
            _ => Err(Failure::new(Status::Usage, format!("{address} is not a stream"))),
        }?;
        socket
            .set_nonblocking(true)
            .map_err(|error| Failure::new(Status::Io, format!("cannot set up the connection to {address}: {error}")))?;
        Ok(Connection { socket })
    }

    /// Reads what there is; 0 at end of file.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(buffer)
    }

    /// Writes what fits.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.socket).write(bytes)
    }

    /// Says that nothing more will be sent, and keeps receiving.
    pub(super) fn half_close(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Every address that a host has.
pub(super) fn resolve(host: &Host, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    match host {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, port)]),
        Host::Name(name) => match (name.as_str(), port).to_socket_addrs().map(Iterator::collect) {
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(Failure::new(Status::UnknownHost, format!("unknown host {name}: {error}"))),
        },
    }
}

/// What there is to say of a host without any.
pub(super) fn no_address() -> Failure {
    Failure::new(Status::UnknownHost, "the host has no address")
}

/// The name of a Unix socket as the kernel takes it.
pub(super) fn unix_address(name: &UnixName) -> io::Result<SockAddr> {
    match name {
        UnixName::Path(path) => SockAddr::unix(path),
        UnixName::Abstract(name) => SockAddr::unix(std::ffi::OsStr::from_bytes(&[b"\0", name.as_slice()].concat())),
    }
}

fn open_tcp(host: &Host, port: u16, timeout: Duration) -> Result<Socket, Failure> {
    let deadline = Instant::now() + timeout;
    let candidates = resolve(host, port)?;
    let mut last = None;
    for (i, &candidate) in candidates.iter().enumerate() {
        // Each gets its share of what is left: one that swallows packets must not keep us from the others.
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
    // Where nobody listens on a local port that the kernel also hands out, a connection may meet itself.
    if socket.local_addr()?.as_socket() == Some(address) {
        return Err(Errno::ECONNREFUSED.into());
    }
    socket.set_tcp_nodelay(true)?;
    // A peer that vanished without a word is found after 45 + 3 × 15 seconds.
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(45)).with_interval(Duration::from_secs(15)).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}

fn open_unix(name: &UnixName, timeout: Duration) -> io::Result<Socket> {
    let address = unix_address(name)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full accept queue blocks connect(2) for as long as a send may take (unix(7)).
    socket.set_write_timeout(Some(timeout.max(Duration::from_millis(1))))?;
    socket.connect(&address)?;
    socket.set_write_timeout(None)?;
    Ok(socket)
}

/// Why the daemon cannot be reached, over any transport.
pub(super) fn cannot_connect(place: &impl fmt::Display, error: &io::Error) -> Failure {
    let (status, advice) = match (error.kind(), error.raw_os_error().map(Errno::from_raw)) {
        (ErrorKind::TimedOut | ErrorKind::WouldBlock, _) => {
            return Failure::new(
                Status::TimedOut,
                format!(
                    "cannot connect to {place}: nobody answered in time; is the address right, a firewall in between?"
                ),
            );
        }
        (ErrorKind::NotFound, _) => (Status::Refused, "there is no such socket; is upcalld running?"),
        (ErrorKind::ConnectionRefused, _) => (Status::Refused, "nobody listens there; is upcalld running?"),
        (ErrorKind::PermissionDenied, _) => {
            (Status::Denied, "the socket's mode or group, or a firewall, keeps this user out")
        }
        // The connection was made, and broken before we could use it.
        (ErrorKind::ConnectionReset, _) => (Status::Io, "it closed the connection at once"),
        (_, Some(Errno::EPROTOTYPE)) => (Status::Refused, "it is a socket of another kind; is it the right transport?"),
        _ => (Status::Refused, "is the address right?"),
    };
    Failure::new(status, format!("cannot connect to {place}: {error}; {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    fn status(url: &str) -> Status {
        let address = Address::parse_url(url, None).unwrap();
        Connection::open(&address, Duration::from_millis(200)).map_or_else(|failure| failure.status(), |_| Status::Ok)
    }

    #[test]
    fn streams_are_reached_on_every_transport() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(status(&format!("tcp://{}", tcp.local_addr().unwrap())), Status::Ok);
        assert_eq!(status(&format!("tcp://localhost:{}", tcp.local_addr().unwrap().port())), Status::Ok);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _unix = UnixListener::bind(&path).unwrap();
        assert_eq!(status(&format!("unix://{}", path.display())), Status::Ok);
    }

    #[test]
    fn failures_have_their_statuses() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(status(&format!("tcp://127.0.0.1:{port}")), Status::Refused);
        assert_eq!(status("tcp://no-such-host.invalid:1"), Status::UnknownHost);
        assert_eq!(status("unix:///nonexistent/upcalld.sock"), Status::Refused);
        assert_eq!(status("unix://@upcalld-nobody-listens-here"), Status::Refused);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _datagram = UnixDatagram::bind(&path).unwrap();
        assert_eq!(status(&format!("unix://{}", path.display())), Status::Refused);
        assert_eq!(cannot_connect(&"x", &Errno::EACCES.into()).status(), Status::Denied);
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
        let failure = loop {
            match Connection::open(&address, Duration::from_millis(20)) {
                Ok(connection) => queued.push(connection),
                Err(failure) => break failure,
            }
        };
        assert_eq!(failure.status(), Status::TimedOut, "{failure}");
    }
}
