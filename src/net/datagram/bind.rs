//! Makes datagram sockets what the daemon needs: bound, with buffers, marks, and the control messages that come with datagrams.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use super::unix_peer::abstract_address;
use super::{DatagramSocket, Kind};
use crate::net::listener::Binding;
use crate::net::sys;
use crate::net::sys::control::space;
use crate::net::unix_path::OwnedPath;
use upcall_wire::address::{Address, Host, Transport, UnixName};

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
/// It bounds how many peers that have connected their sockets may stall ([`super::FlowControl`]): an upcall of 60 KiB is charged
/// 64.25 KiB, so that 1,020 may hold one of these.
const UNIX_SEND_BUFFER: i32 = 32 * 1024 * 1024;

/// What our own UDP datagrams carry in their differentiated services field, so that they can be told from everybody else's:
/// code point 3, of the pool for local use (RFC 2474, section 6). Two daemons that take each other for clients, as a
/// forged datagram can make them, would otherwise send each other's upcalls back and forth for ever.
pub(super) const MARK: u8 = 3 << 2;

fn open(domain: Domain, protocol: Option<Protocol>) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), protocol)?;
    set_buffers(&socket)?;
    Ok(socket)
}

pub(super) fn set_buffers(socket: &Socket) -> io::Result<()> {
    socket.set_send_buffer_size(BUFFER)?;
    socket.set_recv_buffer_size(BUFFER)
}

pub(super) fn bind_udp(address: SocketAddr, dual_stack: bool, beside: bool) -> io::Result<DatagramSocket> {
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
pub(super) fn set_udp_options(socket: &Socket, ip: IpAddr, dual_stack: bool) -> io::Result<(Kind, usize)> {
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
    // One that was handed over may have it: an error would end a batch before everything there is, and nobody would say so.
    if ip.is_ipv4() || dual_stack {
        sys::set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 0)?;
    }
    if ip.is_ipv6() {
        sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 0)?;
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

pub(super) fn bind_unix(name: &UnixName, binding: Binding) -> io::Result<DatagramSocket> {
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

pub(super) fn set_unix_options(socket: &Socket) -> io::Result<()> {
    if sys::set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, UNIX_SEND_BUFFER).is_err() {
        // The kernel makes it what it allows.
        sys::set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, UNIX_SEND_BUFFER)?;
    }
    // Before anybody can send: what comes before it has no credentials.
    socket.set_passcred(true)
}
