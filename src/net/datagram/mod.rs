//! Datagram sockets, UDP and Unix: bound, received from and sent by in batches. Knows addresses and bytes; who is registered, and what
//! a datagram says, is for others.

mod batch;
mod diag;
mod flow;
mod inbox;
#[cfg(test)]
mod tests;
mod trouble;
mod unix_peer;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Protocol, Socket, Type};

pub use batch::{Batch, Destination, Fate, Outbox};
pub use flow::{FlowControl, InFlight, Stalled};
pub use inbox::{Datagram, Inbox, LocalAddress, Received, Sender};
pub use trouble::Trouble;
pub use unix_peer::{PeerSocket, UnixPeer, Unwritable};

use super::inherited::Inherited;
use super::listener::Binding;
use super::sys;
use super::sys::control::space;
use super::sys::send::Prepared;
use super::unix_path::OwnedPath;
use crate::address::{Address, Host, Transport, UnixName};
use trouble::ReceiveTrouble;
use unix_peer::abstract_address;

/// What one socket may keep in the kernel, in bytes; the kernel doubles it, and allows no more than net.core.rmem_max and
/// net.core.wmem_max (208 KiB where nobody has changed them).
///
/// It serves all peers of a listener, so that it needs far more than a stream's. Received: a small datagram is charged 768
/// bytes, so that 2 MiB hold the simultaneous acknowledgements of 2,700 endpoints; UDP has nothing else that holds a
/// sender back. Sent over UDP: what the device has not taken yet.
const BUFFER: usize = 1024 * 1024;

/// What peers may have unread altogether of what a Unix socket has sent them, in bytes; the kernel doubles it, and allows no
/// more than net.core.wmem_max where we are not privileged (CAP_NET_ADMIN). Nothing is reserved by it.
///
/// It bounds how many peers that have connected their sockets may stall ([`FlowControl`]): an upcall of 60 KiB is charged
/// 64.25 KiB, so that 1,020 may hold one of these.
const UNIX_SEND_BUFFER: i32 = 32 * 1024 * 1024;

/// What our own UDP datagrams carry in their differentiated services field, so that they can be told from everybody else's:
/// code point 3, of the pool for local use (RFC 2474, section 6). Two daemons that take each other for clients, as a
/// forged datagram can make them, would otherwise send each other's upcalls back and forth for ever.
const MARK: u8 = 3 << 2;

/// The families, as far as they are different to send and to receive by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ipv4,
    Ipv6,
    Unix,
}

/// A bound datagram socket that many peers share.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: Socket,
    kind: Kind,
    address: Address,
    path: Option<OwnedPath>,
    /// Bytes of the control messages that come with each datagram.
    control: usize,
    /// Runs of datagrams are sent as one (UDP_SEGMENT).
    offload: AtomicBool,
    #[cfg(test)]
    faults: std::sync::Mutex<std::collections::VecDeque<i32>>,
}

/// What the kernel keeps of a socket's datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Bytes charged for what was sent and has not left yet; for a Unix socket, has not been read yet.
    pub sending: usize,
    /// How many it may be: a Unix socket is full for everybody then.
    pub send_buffer: usize,
    /// How many received datagrams were dropped for lack of room, since the socket was made; it wraps round.
    pub dropped: u32,
}

impl DatagramSocket {
    /// Binds. Errors are those of the system, with words where it has none.
    pub fn bind(address: &Address, binding: Binding) -> io::Result<DatagramSocket> {
        match address {
            Address::Inet { transport: Transport::Udp, host: Host::Ip(ip), port } => {
                bind_udp(SocketAddr::new(*ip, *port), binding.dual_stack, false)
            }
            Address::Unix { transport: Transport::UnixDatagram, name } => bind_unix(name, binding),
            other => Err(io::Error::new(io::ErrorKind::Unsupported, format!("cannot take datagrams on {other}"))),
        }
    }

    /// Binds where others of this process, which are about to be closed, may be in the way, over UDP only: they can still
    /// send, and what comes in the meantime reaches one of them. Errors are those of [`DatagramSocket::bind`].
    pub fn bind_beside(address: &Address, binding: Binding, others: &[&DatagramSocket]) -> io::Result<DatagramSocket> {
        let Address::Inet { transport: Transport::Udp, host: Host::Ip(ip), port } = address else {
            return DatagramSocket::bind(address, binding);
        };
        // All of them have to allow it, and for as long as it takes only. The kernel lets no other user's socket in.
        let share = |on| others.iter().try_for_each(|other| other.socket.set_reuse_port(on));
        let bound = share(true).and_then(|()| bind_udp(SocketAddr::new(*ip, *port), binding.dual_stack, true));
        share(false).and(bound)
    }

    /// Takes datagrams from a socket that was handed over. Errors are those of the system.
    pub fn inherit(inherited: &Inherited, binding: Binding) -> io::Result<DatagramSocket> {
        let (socket, address) = (inherited.socket()?, inherited.address().clone());
        set_buffers(&socket)?;
        match &address {
            Address::Inet { host: Host::Ip(ip), .. } => {
                let (kind, control) = set_udp_options(&socket, *ip, binding.dual_stack)?;
                Ok(DatagramSocket::udp(socket, kind, address, control))
            }
            _ => {
                set_unix_options(&socket)?;
                Ok(DatagramSocket::new(socket, Kind::Unix, address, None, space(size_of::<libc::ucred>()), false))
            }
        }
    }

    /// Removes the socket's file, so that another can have the path. It can still send and receive.
    pub fn give_back_path(&mut self) {
        self.path = None;
    }

    fn new(
        socket: Socket,
        kind: Kind,
        address: Address,
        path: Option<OwnedPath>,
        control: usize,
        offload: bool,
    ) -> DatagramSocket {
        DatagramSocket {
            socket,
            kind,
            address,
            path,
            control,
            offload: offload.into(),
            #[cfg(test)]
            faults: Default::default(),
        }
    }

    fn udp(socket: Socket, kind: Kind, address: Address, control: usize) -> DatagramSocket {
        // A kernel before 4.18 would not refuse a run, but send it as one datagram.
        let offload = sys::has_option(&socket, libc::SOL_UDP, libc::UDP_SEGMENT);
        DatagramSocket::new(socket, kind, address, None, control, offload)
    }

    /// Where it is bound, with the port that the kernel chose where none was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Changes what can be changed of a binding while it stands: mode and group of a socket file.
    pub fn set_access(&self, binding: Binding) -> io::Result<()> {
        self.path.as_ref().map_or(Ok(()), |path| path.set_access(binding.mode, binding.group))
    }

    /// What the kernel keeps for it now.
    pub fn kept(&self) -> io::Result<Kept> {
        let memory = sys::memory(&self.socket)?;
        let (sending, send_buffer) = (memory.sending as usize, memory.send_buffer as usize);
        Ok(Kept { sending, send_buffer, dropped: memory.drops })
    }

    /// Takes as many datagrams as are there and the inbox has room for, in one system call. To be repeated until it is
    /// drained: a short batch can have been ended by an error that the next call reports.
    pub fn receive(&self, inbox: &mut Inbox) -> Received {
        loop {
            let error = match self.fault().map_or_else(|| inbox.slots.receive(&self.socket, self.control), Err) {
                Ok(count) => return Received::Datagrams(count),
                Err(error) => error,
            };
            return match ReceiveTrouble::of(error.raw_os_error().unwrap_or(libc::EINVAL)) {
                ReceiveTrouble::Interrupted => continue,
                ReceiveTrouble::Drained => Received::Drained,
                ReceiveTrouble::Elsewhere => Received::Elsewhere(error),
                ReceiveTrouble::Starved => Received::Starved,
                ReceiveTrouble::Broken => Received::Broken(error),
            };
        }
    }

    /// Begins a batch of messages to be sent.
    pub fn batch<'s, 'o, 'd>(&'s self, outbox: &'o mut Outbox) -> Batch<'s, 'o, 'd> {
        Batch::new(self, outbox)
    }

    fn offloads(&self) -> bool {
        self.offload.load(Ordering::Relaxed)
    }

    fn stop_offloading(&self) {
        self.offload.store(false, Ordering::Relaxed);
    }

    /// Sends prepared messages from `first` on: how many went, at least one, or the errno of the first.
    fn transmit(&self, prepared: &mut Prepared<'_>, first: usize) -> Result<usize, i32> {
        let result = self.fault().map_or_else(|| prepared.send(&self.socket, first), Err);
        result.map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
    }

    /// What the next system call is to fail with instead of being made.
    #[cfg(test)]
    fn fault(&self) -> Option<io::Error> {
        let errno = self.faults.lock().unwrap().pop_front().filter(|errno| *errno != 0);
        errno.map(io::Error::from_raw_os_error)
    }

    #[cfg(not(test))]
    fn fault(&self) -> Option<io::Error> {
        None
    }

    /// Makes the next calls of the kernel fail, each with one of these; 0 is a call that is made.
    #[cfg(test)]
    pub(crate) fn fail_next(&self, errnos: &[i32]) {
        self.faults.lock().unwrap().extend(errnos);
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(domain: Domain, protocol: Option<Protocol>) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), protocol)?;
    set_buffers(&socket)?;
    Ok(socket)
}

fn set_buffers(socket: &Socket) -> io::Result<()> {
    socket.set_send_buffer_size(BUFFER)?;
    socket.set_recv_buffer_size(BUFFER)
}

fn bind_udp(address: SocketAddr, dual_stack: bool, beside: bool) -> io::Result<DatagramSocket> {
    let socket = open(Domain::for_address(address), Some(Protocol::UDP))?;
    // No SO_REUSEADDR, by which a second daemon would take over the port; UDP has no TIME_WAIT to get past. No IP_RECVERR,
    // by which ICMP for one peer fails the next call for another.
    if address.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    let (kind, control) = set_udp_options(&socket, address.ip(), dual_stack)?;
    socket.set_reuse_port(beside)?;
    socket.bind(&address.into())?;
    socket.set_reuse_port(false)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    let address = Address::Inet { transport: Transport::Udp, host: Host::Ip(bound.ip()), port: bound.port() };
    Ok(DatagramSocket::udp(socket, kind, address, control))
}

/// Says what kind of socket it is, and how many bytes of control messages come with each datagram.
fn set_udp_options(socket: &Socket, ip: IpAddr, dual_stack: bool) -> io::Result<(Kind, usize)> {
    let wildcard = ip.is_unspecified();
    let (kind, info) = if ip.is_ipv6() {
        if wildcard {
            sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        }
        (Kind::Ipv6, space(size_of::<libc::in6_pktinfo>()))
    } else {
        if wildcard {
            sys::set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        }
        (Kind::Ipv4, space(size_of::<libc::in_pktinfo>()))
    };
    // IPv4: what does not fit is cut into fragments, here and on the way, and no ICMP message, which anybody can forge,
    // changes that. With path MTU discovery, a path that swallows ICMP would swallow larger datagrams for ever: nothing
    // here acknowledges text (RFC 8085 section 3.2; IP_PMTUDISC_OMIT in linux/in.h). IPv6 routers cut nothing: there the
    // kernel has to listen to them, as it does by default, and cuts here. A dual-stack socket does both.
    if ip.is_ipv4() || dual_stack {
        sys::set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT)?;
    }
    mark(socket, ip.is_ipv4() || dual_stack, ip.is_ipv6())?;
    Ok((kind, space(size_of::<libc::c_int>()) + if wildcard { info } else { 0 }))
}

/// Marks what is sent, and asks for the marks of what is received.
fn mark(socket: &Socket, ipv4: bool, ipv6: bool) -> io::Result<()> {
    if ipv4 {
        sys::set_option(socket, libc::IPPROTO_IP, libc::IP_TOS, MARK.into())?;
        sys::set_option(socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
    }
    if ipv6 {
        sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, MARK.into())?;
        sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
    }
    Ok(())
}

fn bind_unix(name: &UnixName, binding: Binding) -> io::Result<DatagramSocket> {
    let socket = open(Domain::UNIX, None)?;
    set_unix_options(&socket)?;
    let path = match name {
        UnixName::Abstract(name) => {
            socket.bind(&abstract_address(name)?)?;
            None
        }
        UnixName::Path(path) => Some(OwnedPath::bind(&socket, path, binding.mode, binding.group)?),
    };
    let address = Address::Unix { transport: Transport::UnixDatagram, name: name.clone() };
    Ok(DatagramSocket::new(socket, Kind::Unix, address, path, space(size_of::<libc::ucred>()), false))
}

fn set_unix_options(socket: &Socket) -> io::Result<()> {
    if sys::set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, UNIX_SEND_BUFFER).is_err() {
        // The kernel makes it what it allows.
        sys::set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, UNIX_SEND_BUFFER)?;
    }
    // Before anybody can send: what comes before it has no credentials.
    socket.set_passcred(true)
}
