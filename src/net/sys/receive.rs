//! Many datagrams by one system call (recvmmsg(2)).

use std::ffi::OsStr;
use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use super::control::{Ancillary, Control};
use super::hot;
use upcall_wire::address::UnixName;

/// Buffers for datagrams, and what the last call has put into them.
pub(in crate::net) struct Slots {
    room: usize,
    bytes: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    filled: usize,
    /// From this one on, the headers are as they were prepared, with so many bytes for control messages.
    prepared: (usize, usize),
}

// SAFETY: the pointers in `parts` and `headers` are to what the vectors beside them own, which is never moved, since none of
// the vectors ever changes its length.
unsafe impl Send for Slots {}

/// Who a socket address names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::net) enum Name {
    Inet(SocketAddr),
    Unix(Option<UnixName>),
}

impl Slots {
    /// So many slots of so many bytes.
    pub(in crate::net) fn new(count: usize, room: usize) -> Slots {
        // SAFETY: these are plain C structures, for which all zeros is a value.
        let (name, header) = unsafe { (MaybeUninit::zeroed().assume_init(), MaybeUninit::zeroed().assume_init()) };
        Slots {
            room,
            // Zeroed pages are not there before something is written to them.
            bytes: vec![0; count * room],
            names: vec![name; count],
            controls: vec![Control::EMPTY; count],
            parts: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: room }; count],
            headers: vec![header; count],
            filled: 0,
            prepared: (count, 0),
        }
    }

    /// Takes what is there, without waiting. The room for control messages is `control` bytes, and should be no more than
    /// those that are expected need: a stranger's SCM_RIGHTS then finds none, and the kernel drops the descriptors.
    pub(in crate::net) fn receive(&mut self, socket: impl AsFd, control: usize) -> io::Result<usize> {
        self.filled = 0;
        let used = if self.prepared.1 == control { self.prepared.0 } else { self.headers.len() };
        self.prepare(used, control);
        // SAFETY: every header points to a name, a part and a control buffer of its own, each as long as it says, in
        // vectors that are borrowed for the whole call: those that the last call has changed were prepared anew.
        let received = unsafe { hot::receive_many(socket, &mut self.headers) };
        // The kernel may have begun to fill one more than it counts; after an error, who knows.
        self.prepared.0 = received.as_ref().map_or(self.headers.len(), |count| count + 1);
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
        self.prepared.1 = control;
    }

    /// How many datagrams one call can bring.
    pub(in crate::net) fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// How many datagrams the last call has brought.
    pub(in crate::net) fn filled(&self) -> usize {
        self.filled
    }

    /// The bytes of one of them, and whether there were more than there is room for.
    pub(in crate::net) fn bytes(&self, index: usize) -> (&[u8], bool) {
        let header = &self.headers[..self.filled][index];
        let start = index * self.room;
        let length = (header.msg_len as usize).min(self.room);
        (&self.bytes[start..start + length], header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0)
    }

    /// What came with one of them.
    pub(in crate::net) fn ancillary(&self, index: usize) -> Ancillary {
        let mut header = self.headers[..self.filled][index].msg_hdr;
        header.msg_control = self.controls[index].as_ptr().cast_mut();
        // SAFETY: the kernel has filled the header, and its control buffer is that of the same slot; it is only read.
        unsafe { Ancillary::read(&header) }
    }

    /// Who sent one of them.
    pub(in crate::net) fn sender(&self, index: usize) -> Name {
        let length = self.headers[..self.filled][index].msg_hdr.msg_namelen as usize;
        name(&self.names[index], length)
    }
}

/// Reads a socket address of `length` bytes (ip(7), ipv6(7), unix(7)).
fn name(storage: &libc::sockaddr_storage, length: usize) -> Name {
    let at = (&raw const *storage).cast::<u8>();
    // The kernel leaves the storage alone where there is no name, and says so by the length.
    let family = if length < size_of::<libc::sa_family_t>() { libc::AF_UNIX } else { storage.ss_family.into() };
    match family {
        libc::AF_INET if length >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: the storage is larger than, and aligned for, every socket address; the family says which one it is.
            let address = unsafe { &*at.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
            Name::Inet(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
        }
        libc::AF_INET6 if length >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above.
            let address = unsafe { &*at.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            let port = u16::from_be(address.sin6_port);
            match ip.to_ipv4_mapped() {
                Some(ip) => Name::Inet(SocketAddrV4::new(ip, port).into()),
                None => Name::Inet(SocketAddrV6::new(ip, port, 0, address.sin6_scope_id).into()),
            }
        }
        _ => {
            let path = offset_of!(libc::sockaddr_un, sun_path);
            let length = length.clamp(path, size_of::<libc::sockaddr_un>());
            // SAFETY: sockaddr_un is smaller than the storage, all of whose bytes were initialized.
            let bytes = unsafe { std::slice::from_raw_parts(at.add(path), length - path) };
            Name::Unix(unix_name(bytes))
        }
    }
}

/// Reads what the kernel keeps as the name of a Unix socket (unix(7)).
pub(in crate::net) fn unix_name(bytes: &[u8]) -> Option<UnixName> {
    match bytes {
        [] => None,
        [0, name @ ..] => Some(UnixName::Abstract(name.to_vec())),
        // A path of full length has no NUL at its end.
        path => {
            let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
            Some(UnixName::Path(OsStr::from_bytes(path).into()))
        }
    }
}
