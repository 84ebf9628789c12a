//! Receives many datagrams with one system call (recvmmsg(2)).

use std::ffi::OsStr;
use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use upcall_wire::address::UnixName;

use super::control::{Ancillary, Control};
use super::hot;

/// Buffers for datagrams, with the datagrams of the last call.
pub(in crate::net) struct Slots {
    room: usize,
    bytes: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    filled: usize,
    /// The first header that is unchanged since it was prepared. The last call has changed those before it.
    first_intact: usize,
    /// The room for control messages that the headers were prepared with, in bytes.
    control_room: usize,
}

// SAFETY: the pointers in `parts` and `headers` point into the vectors beside them, whose contents never move, since no
// vector changes its length.
unsafe impl Send for Slots {}

/// The name of a socket, as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::net) enum SocketName {
    Inet(SocketAddr),
    Unix(Option<UnixName>),
}

impl Slots {
    /// Makes `count` slots of `room` bytes each.
    pub(in crate::net) fn new(count: usize, room: usize) -> Slots {
        // SAFETY: these are plain C structures, for which all zeros are a valid value.
        let (name, header) = unsafe { (MaybeUninit::zeroed().assume_init(), MaybeUninit::zeroed().assume_init()) };
        Slots {
            room,
            // Zeroed pages occupy no memory until something is written to them.
            bytes: vec![0; count * room],
            names: vec![name; count],
            controls: vec![Control::EMPTY; count],
            parts: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: room }; count],
            headers: vec![header; count],
            filled: 0,
            first_intact: count,
            control_room: 0,
        }
    }

    /// Receives the available datagrams, without waiting, and returns their number. `control` is the room for the
    /// control messages of each, in bytes. It should be no more than the expected messages need, so that an unexpected
    /// SCM_RIGHTS does not fit and the kernel drops its descriptors.
    pub(in crate::net) fn receive(&mut self, socket: impl AsFd, control: usize) -> io::Result<usize> {
        self.filled = 0;
        let stale = if self.control_room == control { self.first_intact } else { self.headers.len() };
        self.prepare(stale, control);
        // SAFETY: every header points to its own name, part and control buffer, each of the length in the header, in
        // vectors that are borrowed for the whole call; the headers that the last call changed were prepared again.
        let received = unsafe { hot::receive_many(socket, &mut self.headers) };
        // The kernel may have started to fill one header more than it counts; after an error, any of them.
        self.first_intact = received.as_ref().map_or(self.headers.len(), |count| count + 1);
        self.filled = received?;
        Ok(self.filled)
    }

    /// Prepares the first `count` headers.
    fn prepare(&mut self, count: usize, control: usize) {
        let buffers = self.bytes.chunks_exact_mut(self.room).zip(&mut self.names).zip(&mut self.controls);
        let headers = self.parts.iter_mut().zip(&mut self.headers);
        for (((bytes, name), buffer), (part, header)) in buffers.zip(headers).take(count) {
            part.iov_base = bytes.as_mut_ptr().cast();
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut *name).cast();
            header.msg_namelen = size_of_val(name) as _;
            header.msg_iov = part;
            header.msg_iovlen = 1;
            header.msg_control = buffer.as_mut_ptr();
            header.msg_controllen = control as _;
            header.msg_flags = 0;
        }
        self.control_room = control;
    }

    /// The most datagrams that one call can receive.
    pub(in crate::net) fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// The number of datagrams that the last call has received.
    pub(in crate::net) fn filled(&self) -> usize {
        self.filled
    }

    /// The bytes of a datagram, and whether it had more than there is room for.
    pub(in crate::net) fn bytes(&self, index: usize) -> (&[u8], bool) {
        let header = &self.headers[..self.filled][index];
        let start = index * self.room;
        let length = (header.msg_len as usize).min(self.room);
        (&self.bytes[start..start + length], header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0)
    }

    /// The control messages of a datagram.
    pub(in crate::net) fn ancillary(&self, index: usize) -> Ancillary {
        let mut header = self.headers[..self.filled][index].msg_hdr;
        header.msg_control = self.controls[index].as_ptr().cast_mut();
        // SAFETY: the kernel has filled the header, and the control buffer is that of the same slot; it is only read.
        unsafe { Ancillary::read(&header) }
    }

    /// The name of the socket that sent a datagram.
    pub(in crate::net) fn sender(&self, index: usize) -> SocketName {
        let length = self.headers[..self.filled][index].msg_hdr.msg_namelen as usize;
        read_name(&self.names[index], length)
    }
}

/// Reads a socket address of `length` bytes (ip(7), ipv6(7), unix(7)).
fn read_name(storage: &libc::sockaddr_storage, length: usize) -> SocketName {
    let at = (&raw const *storage).cast::<u8>();
    // If there is no name, the kernel leaves the storage unchanged and sets the length to zero.
    let family = if length < size_of::<libc::sa_family_t>() { libc::AF_UNIX } else { storage.ss_family.into() };
    match family {
        libc::AF_INET if length >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: the storage is larger than, and aligned for, every socket address; the family selects the one
            // that it holds.
            let address = unsafe { &*at.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
            SocketName::Inet(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
        }
        libc::AF_INET6 if length >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above.
            let address = unsafe { &*at.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            let port = u16::from_be(address.sin6_port);
            match ip.to_ipv4_mapped() {
                Some(ip) => SocketName::Inet(SocketAddrV4::new(ip, port).into()),
                None => SocketName::Inet(SocketAddrV6::new(ip, port, 0, address.sin6_scope_id).into()),
            }
        }
        _ => {
            let path = offset_of!(libc::sockaddr_un, sun_path);
            let length = length.clamp(path, size_of::<libc::sockaddr_un>());
            // SAFETY: sockaddr_un is smaller than the storage, all bytes of which were initialized.
            let bytes = unsafe { std::slice::from_raw_parts(at.add(path), length - path) };
            SocketName::Unix(unix_name(bytes))
        }
    }
}

/// Reads the name of a Unix socket in the kernel's form (unix(7)); `None` for an unnamed socket.
pub(in crate::net) fn unix_name(bytes: &[u8]) -> Option<UnixName> {
    match bytes {
        [] => None,
        [0, name @ ..] => Some(UnixName::Abstract(name.to_vec())),
        // A path of the full length does not end in NUL.
        path => {
            let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
            Some(UnixName::Path(OsStr::from_bytes(path).into()))
        }
    }
}
