//! Sends many datagrams with one system call (sendmmsg(2)), each with its own control messages.

use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockAddr;

use super::control::Control;
use super::hot;

/// A message to send, in parts.
#[derive(Debug, Clone, Copy)]
pub(in crate::net) struct OutgoingMessage<'m> {
    pub(in crate::net) to: &'m SockAddr,
    pub(in crate::net) parts: &'m [IoSlice<'m>],
    pub(in crate::net) control: &'m Control,
}

/// The memory for message headers, which is reused for each batch.
#[derive(Default)]
pub(in crate::net) struct Headers(Vec<libc::mmsghdr>);

// SAFETY: the headers are written before each use; those of the batch before are never read.
unsafe impl Send for Headers {}

/// Headers that point to messages, which they borrow.
pub(in crate::net) struct Prepared<'m> {
    headers: &'m mut [libc::mmsghdr],
    messages: PhantomData<OutgoingMessage<'m>>,
}

impl Headers {
    /// Makes a header for each message, in this order.
    pub(in crate::net) fn prepare<'m>(
        &'m mut self,
        messages: impl Iterator<Item = OutgoingMessage<'m>>,
    ) -> Prepared<'m> {
        self.0.clear();
        self.0.extend(messages.map(|message| {
            // SAFETY: this is a plain C structure, for which all zeros are a valid value. (On some systems it has
            // private padding, so that it cannot be written as a literal.)
            let mut header: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
            header.msg_hdr.msg_name = message.to.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = message.to.len();
            header.msg_hdr.msg_iov = message.parts.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_iovlen = message.parts.len() as _;
            if message.control.length() > 0 {
                header.msg_hdr.msg_control = message.control.as_ptr().cast_mut();
                header.msg_hdr.msg_controllen = message.control.length() as _;
            }
            header
        }));
        Prepared { headers: &mut self.0, messages: PhantomData }
    }
}

impl Prepared<'_> {
    /// Sends the messages from `first` on, until one fails; returns how many were sent. The error is that of the
    /// message `first`; the error of a later one is lost (sendmmsg(2)).
    pub(in crate::net) fn send(&mut self, socket: impl AsFd, first: usize) -> io::Result<usize> {
        let headers = &mut self.headers[first..];
        if let [libc::mmsghdr { msg_hdr, .. }] = headers
            && (msg_hdr.msg_iovlen, msg_hdr.msg_controllen) == (1, 0)
        {
            // A single message is sent without its header, which the kernel would have to copy and check first. SAFETY:
            // the header points to one part (see below) and to a name, which are borrowed as long as `self` lives.
            let (bytes, name) = unsafe {
                let libc::iovec { iov_base, iov_len } = *msg_hdr.msg_iov;
                let bytes = std::slice::from_raw_parts(iov_base.cast(), iov_len);
                (bytes, hot::NameRef::new(msg_hdr.msg_name, msg_hdr.msg_namelen))
            };
            return hot::send(socket, bytes, Some(name)).map(|_| 1);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the pointer and the count are those of the slice. Each header points to a name, to parts (an IoSlice
        // is an iovec, by its documentation) and to control messages, which are borrowed as long as `self` lives; the
        // kernel only reads them.
        let result = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), headers.len() as libc::c_uint, flags as _) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }
}

/// The bytes of a slice, with their own lifetime. (`IoSlice` dereferences to bytes that borrow the `IoSlice` itself.)
pub(in crate::net) fn bytes_of<'d>(slice: &IoSlice<'d>) -> &'d [u8] {
    // SAFETY: an IoSlice<'d> is made from a slice that is borrowed for 'd.
    unsafe { std::slice::from_raw_parts(slice.as_ptr(), slice.len()) }
}

/// Sends a run of datagrams over a connected socket, until one fails; returns how many were sent. All datagrams have
/// `size` bytes, except the last, which may be shorter.
pub(in crate::net) fn send_run(socket: impl AsFd, run: &[u8], size: usize) -> io::Result<usize> {
    let mut parts: Vec<IoSlice<'_>> = run.chunks(size).map(IoSlice::new).collect();
    let header = |part: &mut IoSlice<'_>| {
        // SAFETY: this is a plain C structure, for which all zeros are a valid value.
        let mut header: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        (header.msg_hdr.msg_iov, header.msg_hdr.msg_iovlen) = ((&raw mut *part).cast(), 1);
        header
    };
    let mut headers: Vec<libc::mmsghdr> = parts.iter_mut().map(header).collect();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the pointer and the count are those of the vector. Each header points to one part (an IoSlice is an
    // iovec, by its documentation); all parts live until the end of the function, and the kernel only reads them.
    let result = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), headers.len() as libc::c_uint, flags as _) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Sends one datagram over a connected socket.
pub(in crate::net) fn send(socket: impl AsFd, parts: &[IoSlice<'_>]) -> io::Result<()> {
    // SAFETY: this is a plain C structure, for which all zeros are a valid value.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = parts.as_ptr().cast_mut().cast();
    header.msg_iovlen = parts.len() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header points to parts that are borrowed for the call; the kernel only reads them.
    let result = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const header, flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
