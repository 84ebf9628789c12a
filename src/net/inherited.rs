//! Sockets that the service manager has bound and hands over to the daemon (sd_listen_fds(3)). They are inspected and
//! compared with the sockets that the listeners would have bound. They belong to the manager: nothing here unlinks
//! their paths or changes their modes.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};
use upcall_wire::address::{Address, Host, Transport, UnixName};

use super::binding::Binding;
use super::sys::handover::take_descriptor;

/// The first descriptor that is handed over; the others follow (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;

/// The most descriptors that are accepted. No real unit has this many, so a larger number is a mistake.
const MAX: RawFd = 4096;

/// The name of a socket without a name (sd_listen_fds_with_names(3)).
const NAMELESS: &str = "unknown";

/// A socket of the service manager. It stays open while no listener uses it; connections and datagrams then queue up in
/// it.
#[derive(Debug)]
pub struct Inherited {
    name: String,
    socket: Socket,
    address: Address,
    /// An IPv6 socket that accepts no IPv4 clients.
    only_v6: bool,
    lacked_credentials: bool,
}

impl Inherited {
    /// Takes over the sockets that `$LISTEN_PID`, `$LISTEN_FDS` and `$LISTEN_FDNAMES` describe, if they are meant for
    /// this process. Must be called once, before any other descriptor is opened. The error names the socket that cannot
    /// be used, and the reason.
    pub fn take(variables: [Option<OsString>; 3]) -> Result<Vec<Inherited>, String> {
        let [pid, count, names] = variables.map(|value| value.and_then(|value| value.into_string().ok()));
        let (Some(pid), Some(count)) = (pid, count) else { return Ok(Vec::new()) };
        if pid.parse() != Ok(std::process::id()) {
            return Ok(Vec::new());
        }
        let count: RawFd =
            count.parse().ok().filter(|count| (0..=MAX).contains(count)).ok_or_else(|| {
                format!("$LISTEN_FDS is \"{}\", which is not a number of sockets", count.escape_debug())
            })?;
        let mut names = names.as_deref().unwrap_or_default().split(':');
        let mut sockets = Vec::new();
        for number in FIRST..FIRST + count {
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or(NAMELESS).to_owned();
            let inspected = take_descriptor(number).and_then(|descriptor| Inherited::new(name.clone(), descriptor));
            sockets.push(inspected.map_err(|error| {
                format!("file descriptor {number}, \"{}\", cannot be listened on: {error}", name.escape_debug())
            })?);
        }
        Ok(sockets)
    }

    fn new(name: String, descriptor: OwnedFd) -> io::Result<Inherited> {
        let socket = Socket::from(descriptor);
        let wrong = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        let (domain, kind) = (socket.domain()?, socket.r#type()?);
        let inet = [Domain::IPV4, Domain::IPV6].contains(&domain);
        let transport = match kind {
            Type::STREAM if !socket.is_listener()? => {
                return wrong("it is a connection, not a listening socket (write Accept=no)");
            }
            Type::STREAM if inet && socket.protocol()? == Some(Protocol::TCP) => Transport::Tcp,
            Type::DGRAM if inet && socket.protocol()? == Some(Protocol::UDP) => Transport::Udp,
            Type::STREAM if domain == Domain::UNIX => Transport::Unix,
            Type::DGRAM if domain == Domain::UNIX => Transport::UnixDatagram,
            _ => return wrong("it is neither TCP nor UDP nor a Unix stream or datagram socket"),
        };
        let Some(address) = address_of(&socket, transport)? else { return wrong("it has no address") };
        let only_v6 = domain == Domain::IPV6 && socket.only_v6()?;
        let lacked_credentials = transport == Transport::UnixDatagram && !socket.passcred()?;
        socket.set_nonblocking(true)?;
        Ok(Inherited { name, socket, address, only_v6, lacked_credentials })
    }

    /// Its `FileDescriptorName=`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is bound.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it may hold datagrams without the credentials of their senders, because SO_PASSCRED (unix(7)) was not
    /// set when they arrived.
    pub fn lacked_credentials(&self) -> bool {
        self.lacked_credentials
    }

    /// Checks that it is the socket that a listener with this address and binding would have bound. The error is the
    /// difference.
    pub fn check(&self, address: &Address, binding: Binding) -> Result<(), String> {
        let same = match (address, &self.address) {
            (Address::Inet { port: 0, transport, host }, Address::Inet { transport: t, host: h, .. }) => {
                (transport, host) == (t, h)
            }
            (wanted, found) => wanted == found,
        };
        if !same {
            return Err(format!("it is {}, and the listener is {address}", self.address));
        }
        let dual_stack = !self.only_v6;
        if is_any_v6(address) && dual_stack != binding.dual_stack {
            let (found, wanted) = (dual_stack, binding.dual_stack);
            return Err(format!(
                "it {} IPv4 clients, and dual_stack is {wanted} (BindIPv6Only= of the socket unit)",
                if found { "accepts" } else { "does not accept" }
            ));
        }
        Ok(())
    }

    /// Another descriptor for the socket. Options that are set on one descriptor apply to all of them, including the
    /// service manager's.
    pub(super) fn socket(&self) -> io::Result<Socket> {
        self.socket.try_clone()
    }
}

fn is_any_v6(address: &Address) -> bool {
    matches!(address, Address::Inet { host: Host::Ip(ip), .. } if ip.is_ipv6() && ip.is_unspecified())
}

fn address_of(socket: &Socket, transport: Transport) -> io::Result<Option<Address>> {
    let bound = socket.local_addr()?;
    if transport.is_inet() {
        let inet = bound.as_socket().filter(|address| address.port() != 0);
        return Ok(inet.map(|address: SocketAddr| Address::Inet {
            transport,
            host: Host::Ip(address.ip()),
            port: address.port(),
        }));
    }
    let path = bound.as_pathname().map(|path| UnixName::Path(path.into()));
    let name = path.or_else(|| bound.as_abstract_namespace().map(|name| UnixName::Abstract(name.into())));
    Ok(name.map(|name| Address::Unix { transport, name }))
}
