//! Control messages (cmsg(3)): data that accompanies a datagram, apart from its bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{FromRawFd, OwnedFd};

use upcall_wire::address::Credentials;

/// The most bytes of control messages with one datagram: an in6_pktinfo (40), and a segment size or a traffic class
/// (24).
const ROOM: usize = 64;

/// A buffer for the control messages of one datagram.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(in crate::net) struct Control {
    bytes: [u8; ROOM],
    length: usize,
}

/// The room for one control message with this many bytes of data, in bytes.
pub(in crate::net) const fn space(bytes: usize) -> usize {
    // SAFETY: CMSG_SPACE is arithmetic only.
    unsafe { libc::CMSG_SPACE(bytes as libc::c_uint) as usize }
}

impl Control {
    /// No control messages.
    pub(in crate::net) const EMPTY: Control = Control { bytes: [0; ROOM], length: 0 };

    /// The bytes in use.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.bytes.as_mut_ptr().cast()
    }

    pub(super) fn as_ptr(&self) -> *const libc::c_void {
        self.bytes.as_ptr().cast()
    }

    /// Sets the source address of a datagram (IP_PKTINFO in ip(7), IPV6_PKTINFO in RFC 3542 section 6). An IPv6 socket
    /// accepts only the latter, with IPv4-mapped addresses.
    pub(in crate::net) fn set_source(&mut self, source: IpAddr, interface: u32, ipv6_socket: bool) {
        match source {
            IpAddr::V4(source) if !ipv6_socket => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: interface as _,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(source.octets()) },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            source => {
                let octets = match source {
                    IpAddr::V4(source) => source.to_ipv6_mapped().octets(),
                    IpAddr::V6(source) => source.octets(),
                };
                let info =
                    libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: octets }, ipi6_ifindex: interface as _ };
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
        }
    }

    /// Makes the kernel split the bytes into datagrams of this size (UDP_SEGMENT, udp(7)).
    pub(in crate::net) fn set_segment_size(&mut self, bytes: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, bytes);
    }

    fn push<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        let end = self.length + space(size_of::<T>());
        assert!(end <= ROOM, "the control buffer has room for every message that is sent");
        // SAFETY: `length..end` is inside the buffer and holds a header and the value, by the definition of CMSG_SPACE;
        // the header is aligned, since the buffer is and CMSG_SPACE keeps it so.
        unsafe {
            let header = self.bytes.as_mut_ptr().add(self.length).cast::<libc::cmsghdr>();
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<T>() as libc::c_uint) as _;
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        self.length = end;
    }
}

/// The control messages that came with a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::net) struct Ancillary {
    /// The address that it was sent to, and the index of the interface that it arrived on.
    pub(in crate::net) local: Option<(IpAddr, u32)>,
    pub(in crate::net) credentials: Option<Credentials>,
    /// The differentiated services field (RFC 2474): its upper six bits are the code point.
    pub(in crate::net) services: u8,
}

impl Ancillary {
    /// Reads the control messages of a received message.
    ///
    /// # Safety
    /// `header` was filled by recvmsg(2) or recvmmsg(2), and its control buffer is still there.
    pub(super) unsafe fn read(header: &libc::msghdr) -> Ancillary {
        let mut found = Ancillary::default();
        // SAFETY: the caller guarantees the buffer; the kernel has written whole headers, and the macros stay within
        // `msg_controllen`. Values have the length of the kernel's types of these names, and are read unaligned.
        unsafe {
            let mut next = libc::CMSG_FIRSTHDR(header);
            while let Some(message) = next.as_ref() {
                let data = libc::CMSG_DATA(message);
                #[allow(clippy::unnecessary_cast, reason = "it is a u32 with musl")]
                let length = (message.cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
                match (message.cmsg_level, message.cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) if length >= size_of::<libc::in_pktinfo>() => {
                        let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                        // Not ipi_addr, which for a broadcast is the broadcast address.
                        let ip = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                        found.local = Some((ip.into(), info.ipi_ifindex as u32));
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if length >= size_of::<libc::in6_pktinfo>() => {
                        let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                        let ip = IpAddr::from(Ipv6Addr::from(info.ipi6_addr.s6_addr)).to_canonical();
                        // A multicast address cannot be the source of an answer.
                        found.local = (!ip.is_multicast()).then_some((ip, info.ipi6_ifindex as u32));
                    }
                    (libc::IPPROTO_IP, libc::IP_TOS) if length >= 1 => found.services = *data,
                    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) if length >= size_of::<libc::c_int>() => {
                        found.services = data.cast::<libc::c_int>().read_unaligned() as u8;
                    }
                    (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                        let ucred = data.cast::<libc::ucred>().read_unaligned();
                        found.credentials = Some(Credentials { pid: ucred.pid, uid: ucred.uid, gid: ucred.gid });
                    }
                    // The buffer has no room for them (see `receive`). If any arrive nevertheless, they must be closed.
                    (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                        for index in 0..length / size_of::<libc::c_int>() {
                            let fd = data.cast::<libc::c_int>().add(index).read_unaligned();
                            drop(OwnedFd::from_raw_fd(fd));
                        }
                    }
                    _ => {}
                }
                next = libc::CMSG_NXTHDR(header, message);
            }
        }
        found
    }
}
