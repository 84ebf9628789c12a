//! Binds datagram sockets, and sets their buffers, their mark, and the control messages of received datagrams.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use upcall_wire::address::{Address, Host, Transport, UnixName};

use super::socket::{DatagramSocket, Family};
use super::unix_peer::abstract_address;
use crate::net::binding::Binding;
use crate::net::inherited::Inherited;
use crate::net::sys;
use crate::net::sys::control::space;
use crate::net::unix_path::OwnedPath;

/// Send and receive buffer of a UDP socket, and receive buffer of a Unix socket, in bytes; the kernel doubles it, and
/// allows no more than net.core.rmem_max and net.core.wmem_max (208 KiB by default).
///
/// It serves all peers of a listener, so it must be far larger than a stream's. Receiving: a small datagram is charged
/// 768 bytes, so 2 MiB hold the simultaneous acknowledgements of 2,700 endpoints; UDP cannot slow a sender down.
/// Sending over UDP: it holds the datagrams that the device has not sent yet.
const BUFFER: usize = 1024 * 1024;

/// The most unread bytes that all peers together may have from one Unix socket; the kernel doubles it, and without
/// CAP_NET_ADMIN allows no more than net.core.wmem_max. It reserves no memory.
///
/// It limits how many peers with connected sockets may stall ([`super::FlowControl`]): an upcall of 60 KiB is charged
/// 64.25 KiB, so 1,020 peers may each leave one unread.
const UNIX_SEND_BUFFER: i32 = 32 * 1024 * 1024;

/// The differentiated services field of the daemon's own UDP datagrams, which distinguishes them from all others: code
/// point 3, from the pool for local use (RFC 2474, section 6). Without it, a forged datagram could register two daemons
/// with each other as clients, and they would send their upcalls back and forth without end.
pub(super) const MARK: u8 = 3 << 2;

impl DatagramSocket {
    /// Binds. Errors are those of the system, some with a more helpful text.
    pub fn bind(address: &Address, binding: Binding) -> io::Result<DatagramSocket> {
        match address {
            Address::Inet { transport: Transport::Udp, host: Host::Ip(ip), port } => {
                bind_udp(SocketAddr::new(*ip, *port), binding.dual_stack, false)
            }
            Address::Unix { transport: Transport::UnixDatagram, name } => bind_unix(name, binding),
            other => Err(io::Error::new(io::ErrorKind::Unsupported, format!("cannot receive datagrams on {other}"))),
        }
    }

    /// Binds a UDP port that other sockets of this process occupy, which are about to be closed. They can still send,
    /// and a datagram that arrives meanwhile reaches one of the sockets. Errors are those of [`DatagramSocket::bind`].
    pub fn bind_beside(address: &Address, binding: Binding, others: &[&DatagramSocket]) -> io::Result<DatagramSocket> {
        let Address::Inet { transport: Transport::Udp, host: Host::Ip(ip), port } = address else {
            return DatagramSocket::bind(address, binding);
        };
        // All of the sockets must allow it, but only during the bind. The kernel refuses it to sockets of other users.
        let share = |on| others.iter().try_for_each(|other| other.socket.set_reuse_port(on));
        let bound = share(true).and_then(|()| bind_udp(SocketAddr::new(*ip, *port), binding.dual_stack, true));
        share(false).and(bound)
    }

    /// Receives on a socket of the service manager. Errors are those of the system.
    pub fn inherit(inherited: &Inherited, binding: Binding) -> io::Result<DatagramSocket> {
        let (socket, address) = (inherited.socket()?, inherited.address().clone());
        set_buffers(&socket)?;
        let (family, control_room) = match &address {
            Address::Inet { host: Host::Ip(ip), .. } => set_udp_options(&socket, *ip, binding.dual_stack)?,
            _ => set_unix_options(&socket)?,
        };
        Ok(DatagramSocket::new(socket, family, address, None, control_room))
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
    // No SO_REUSEADDR: with it, a second daemon could take over the port, and UDP has no TIME_WAIT that would require
    // it. No IP_RECVERR: with it, an ICMP error of one peer would make the next call fail for another peer.
    if address.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    let (family, control_room) = set_udp_options(&socket, address.ip(), dual_stack)?;
    socket.set_reuse_port(beside)?;
    socket.bind(&address.into())?;
    socket.set_reuse_port(false)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    let address = Address::Inet { transport: Transport::Udp, host: Host::Ip(bound.ip()), port: bound.port() };
    Ok(DatagramSocket::new(socket, family, address, None, control_room))
}

/// Sets the options of a UDP socket. Returns its family, and the room for the control messages of each datagram, in
/// bytes.
fn set_udp_options(socket: &Socket, ip: IpAddr, dual_stack: bool) -> io::Result<(Family, usize)> {
    let wildcard = ip.is_unspecified();
    let (family, info) = if ip.is_ipv6() {
        if wildcard {
            sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        }
        (Family::Ipv6, space(size_of::<libc::in6_pktinfo>()))
    } else {
        if wildcard {
            sys::set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        }
        (Family::Ipv4, space(size_of::<libc::in_pktinfo>()))
    };
    // IPv4: a datagram that is too large is fragmented, here or by routers, and ICMP messages, which can be forged, do
    // not change that. With path MTU discovery, large datagrams would never pass a path that drops ICMP, because text
    // is not acknowledged (RFC 8085 section 3.2; IP_PMTUDISC_OMIT in linux/in.h). IPv6 routers do not fragment: for
    // IPv6 the kernel obeys ICMP, as it does by default, and fragments here. A dual-stack socket does both.
    if ip.is_ipv4() || dual_stack {
        sys::set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT)?;
    }
    // An inherited socket may have it set. An error would then end a batch early, and no event would follow for the
    // rest.
    if ip.is_ipv4() || dual_stack {
        sys::set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 0)?;
    }
    if ip.is_ipv6() {
        sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 0)?;
    }
    set_mark(socket, ip.is_ipv4() || dual_stack, ip.is_ipv6())?;
    Ok((family, space(size_of::<libc::c_int>()) + if wildcard { info } else { 0 }))
}

/// Marks outgoing datagrams, and requests the marks of received ones.
fn set_mark(socket: &Socket, ipv4: bool, ipv6: bool) -> io::Result<()> {
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
    let (family, control_room) = set_unix_options(&socket)?;
    let path = match name {
        UnixName::Abstract(name) => {
            socket.bind(&abstract_address(name)?)?;
            None
        }
        UnixName::Path(path) => Some(OwnedPath::bind(&socket, path, binding.mode, binding.group)?),
    };
    let address = Address::Unix { transport: Transport::UnixDatagram, name: name.clone() };
    Ok(DatagramSocket::new(socket, family, address, path, control_room))
}

/// Sets the options of a Unix socket. Returns its family, and the room for the control messages of each datagram, in
/// bytes.
fn set_unix_options(socket: &Socket) -> io::Result<(Family, usize)> {
    if sys::set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, UNIX_SEND_BUFFER).is_err() {
        // The kernel reduces it to the allowed maximum.
        sys::set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, UNIX_SEND_BUFFER)?;
    }
    // Before the socket has a name: datagrams that arrive earlier carry no credentials.
    socket.set_passcred(true)?;
    Ok((Family::Unix, space(size_of::<libc::ucred>())))
}
