//! Listening stream sockets, TCP and Unix.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use upcall_wire::address::{Address, Host, Peer, Transport, UnixName};

use super::binding::Binding;
use super::inherited::Inherited;
use super::stream::Stream;
use super::unix_path::OwnedPath;

/// The most connections that may wait to be accepted. The kernel's own limit (net.core.somaxconn) is also 4096 by
/// default.
pub const BACKLOG: usize = 4096;

/// The most bytes that the kernel buffers for one connection in each direction; it doubles the value for its own
/// bookkeeping (socket(7)). Without a limit, it would use megabytes for each endpoint that does not read.
const SOCKET_BUFFER: usize = 256 * 1024;

/// With these, the kernel detects a dead idle peer after 45 + 3 × 15 seconds.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(45);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;

/// A listening stream socket.
#[derive(Debug)]
pub struct StreamListener {
    socket: Socket,
    transport: Transport,
    address: Address,
    path: Option<OwnedPath>,
    /// There may be connections in the backlog that did not inherit our options, because they were made before the
    /// listening socket had them.
    early_connections: Cell<bool>,
}

/// The result of accepting.
#[derive(Debug)]
pub enum AcceptOutcome {
    /// A connection.
    Stream(Stream, Peer),
    /// No connection is pending.
    Drained,
    /// This connection failed before it was accepted, or a firewall forbids it. Others may be pending.
    Failed(io::Error),
    /// There is no file descriptor, or no memory, for another connection.
    OutOfResources(io::Error),
}

impl StreamListener {
    /// Binds and listens. Errors are those of the system, some with a more helpful text.
    pub fn bind(address: &Address, binding: Binding) -> io::Result<StreamListener> {
        match address {
            Address::Inet { transport: Transport::Tcp, host: Host::Ip(ip), port } => {
                bind_tcp(SocketAddr::new(*ip, *port), binding.dual_stack)
            }
            Address::Unix { transport: Transport::Unix, name } => bind_unix(name, binding),
            other => Err(io::Error::new(io::ErrorKind::Unsupported, format!("cannot listen on {other}"))),
        }
    }

    /// Listens on a socket of the service manager. Errors are those of the system.
    pub fn inherit(inherited: &Inherited) -> io::Result<StreamListener> {
        let (socket, address) = (inherited.socket()?, inherited.address().clone());
        let transport = address.transport();
        let is_tcp = transport == Transport::Tcp;
        if is_tcp {
            set_tcp_options(&socket)?;
        }
        socket.listen(BACKLOG as i32)?;
        Ok(StreamListener { socket, transport, address, path: None, early_connections: Cell::new(is_tcp) })
    }

    /// Where it listens; port 0 is replaced by the port that the kernel chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Changes the mode and group of a socket file, which can change while the socket stays bound.
    pub fn set_access(&self, binding: Binding) -> io::Result<()> {
        self.path.as_ref().map_or(Ok(()), |path| path.set_access(binding.mode, binding.group))
    }

    /// Accepts one connection.
    pub fn accept(&self) -> AcceptOutcome {
        match self.socket.accept() {
            Ok((socket, address)) => {
                let set = if self.early_connections.get() { set_tcp_options(&socket) } else { Ok(()) };
                let stream = match set.and_then(|()| Stream::new(socket)) {
                    Ok(stream) => stream,
                    Err(error) => return AcceptOutcome::Failed(error),
                };
                match self.peer(&stream, address.as_socket()) {
                    Ok(peer) => AcceptOutcome::Stream(stream, peer),
                    Err(error) => AcceptOutcome::Failed(error),
                }
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => {
                    self.early_connections.set(false);
                    AcceptOutcome::Drained
                }
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    AcceptOutcome::OutOfResources(error)
                }
                // accept(2) also reports network errors of the new connection; they are not the listener's.
                _ => AcceptOutcome::Failed(error),
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

impl AsFd for StreamListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind_tcp(address: SocketAddr, dual_stack: bool) -> io::Result<StreamListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without this, a restart would fail while connections of the previous process are in TIME_WAIT. Binding beside a
    // live listener still fails.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    set_tcp_options(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG as i32)?;
    socket.set_nonblocking(true)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    let transport = Transport::Tcp;
    let address = Address::Inet { transport, host: Host::Ip(bound.ip()), port: bound.port() };
    Ok(StreamListener { socket, transport, address, path: None, early_connections: Cell::new(false) })
}

/// Sets the options of a listening socket; accepted connections inherit all of them.
fn set_tcp_options(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_keepalive(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))
}

fn bind_unix(name: &UnixName, binding: Binding) -> io::Result<StreamListener> {
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
    // The standard library has set a smaller backlog for an abstract socket. listen(2) may be called again.
    socket.listen(BACKLOG as i32)?;
    socket.set_nonblocking(true)?;
    Ok(StreamListener { socket, transport: Transport::Unix, address, path, early_connections: Cell::new(false) })
}
