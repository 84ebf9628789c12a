//! Bound and listening stream sockets.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::inherited::Inherited;
use super::stream::Stream;
use super::unix_path::OwnedPath;
use upcall_wire::address::{Address, Host, Peer, Transport, UnixName};

/// Connections that may wait to be accepted; the kernel's own bound (net.core.somaxconn) is 4096, too.
pub const BACKLOG: usize = 4096;

/// The most that the kernel buffers for one connection, in bytes, in each direction; it doubles them for its own
/// bookkeeping (socket(7)). Left to itself it would take megabytes for each endpoint that does not read.
const SOCKET_BUFFER: usize = 256 * 1024;

/// When the kernel finds an idle peer gone: after 45 + 3 × 15 seconds.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(45);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;

/// How a listener is bound, beside its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Binding {
    /// An IPv6 wildcard listener takes IPv4 connections, too.
    pub dual_stack: bool,
    /// Mode of a socket file.
    pub mode: u32,
    /// Group of a socket file, if it is not to be the process's own.
    pub group: Option<u32>,
}

/// A listening stream socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    transport: Transport,
    address: Address,
    path: Option<OwnedPath>,
    /// Connections may wait that were made before the socket had our options: they have inherited others.
    plain: Cell<bool>,
}

/// What came of accepting.
#[derive(Debug)]
pub enum Accepted {
    /// A connection.
    Stream(Stream, Peer),
    /// Nobody is waiting.
    Nobody,
    /// One that was gone before it was accepted, or that a firewall forbade: others may be waiting.
    Gone(io::Error),
    /// There are no file descriptors, or no memory, for another one.
    Exhausted(io::Error),
}

impl Listener {
    /// Binds and listens. Errors are those of the system, with words where it has none.
    pub fn bind(address: &Address, binding: Binding) -> io::Result<Listener> {
        match address {
            Address::Inet { transport: Transport::Tcp, host: Host::Ip(ip), port } => {
                bind_tcp(SocketAddr::new(*ip, *port), binding.dual_stack)
            }
            Address::Unix { transport: Transport::Unix, name } => bind_unix(name, binding),
            other => Err(io::Error::new(io::ErrorKind::Unsupported, format!("cannot listen on {other}"))),
        }
    }

    /// Listens on a socket that was handed over. Errors are those of the system.
    pub fn inherit(inherited: &Inherited) -> io::Result<Listener> {
        let (socket, address) = (inherited.socket()?, inherited.address().clone());
        let transport = address.transport();
        if transport == Transport::Tcp {
            set_tcp_options(&socket)?;
        }
        socket.listen(BACKLOG as i32)?;
        Ok(Listener { socket, transport, address, path: None, plain: Cell::new(transport == Transport::Tcp) })
    }

    /// Where it listens, with the port that the kernel chose where none was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Changes what can be changed of a binding while it stands: mode and group of a socket file.
    pub fn set_access(&self, binding: Binding) -> io::Result<()> {
        self.path.as_ref().map_or(Ok(()), |path| path.set_access(binding.mode, binding.group))
    }

    /// Accepts one connection.
    pub fn accept(&self) -> Accepted {
        match self.socket.accept() {
            Ok((socket, address)) => {
                let set = if self.plain.get() { set_tcp_options(&socket) } else { Ok(()) };
                let stream = match set.and_then(|()| Stream::new(socket)) {
                    Ok(stream) => stream,
                    Err(error) => return Accepted::Gone(error),
                };
                match self.peer(&stream, address.as_socket()) {
                    Ok(peer) => Accepted::Stream(stream, peer),
                    Err(error) => Accepted::Gone(error),
                }
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => {
                    self.plain.set(false);
                    Accepted::Nobody
                }
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Accepted::Exhausted(error),
                // accept(2): network errors of the new connection are reported here, and are not the listener's.
                _ => Accepted::Gone(error),
            },
        }
    }

    fn peer(&self, stream: &Stream, address: Option<SocketAddr>) -> io::Result<Peer> {
        match (self.transport, address) {
            (Transport::Tcp, Some(address)) => Ok(Peer::inet(address)),
            (Transport::Tcp, None) => Err(io::Error::from(io::ErrorKind::NotConnected)),
            _ => stream.credentials().map(Peer::Unix),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind_tcp(address: SocketAddr, dual_stack: bool) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the one before (TIME_WAIT). Another live listener is still an error.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    set_tcp_options(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG as i32)?;
    socket.set_nonblocking(true)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    let address = Address::Inet { transport: Transport::Tcp, host: Host::Ip(bound.ip()), port: bound.port() };
    Ok(Listener { socket, transport: Transport::Tcp, address, path: None, plain: Cell::new(false) })
}

/// Of a listening socket; those that it accepts inherit all of these.
fn set_tcp_options(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_keepalive(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))
}

fn bind_unix(name: &UnixName, binding: Binding) -> io::Result<Listener> {
    let address = Address::Unix { transport: Transport::Unix, name: name.clone() };
    let (socket, path) = match name {
        UnixName::Abstract(name) => {
            let listener = UnixListener::bind_addr(&UnixAddr::from_abstract_name(name)?)?;
            (Socket::from(listener), None)
        }
        UnixName::Path(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            let path = OwnedPath::bind(&socket, path, binding.mode, binding.group)?;
            (socket, Some(path))
        }
    };
    // Again for an abstract socket, whose listener std has made with a smaller backlog (listen(2) may be repeated).
    socket.listen(BACKLOG as i32)?;
    socket.set_nonblocking(true)?;
    Ok(Listener { socket, transport: Transport::Unix, address, path, plain: Cell::new(false) })
}
