//! The system calls of a turn that carries a single message, over streams and over datagrams.
//!
//! They are made by number, because the C library's wrappers are cancellation points (pthreads(7)): each wrapper costs
//! two more locked instructions once the process has had a second thread.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::{null, null_mut};

/// One event as the kernel writes it (epoll_event(3type)).
pub(in crate::net) type RawEvent = libc::epoll_event;

/// A socket address in the kernel's form, borrowed.
#[derive(Clone, Copy)]
pub(in crate::net) struct NameRef<'n> {
    start: *const libc::c_void,
    length: libc::socklen_t,
    name: PhantomData<&'n libc::sockaddr>,
}

impl NameRef<'_> {
    /// # Safety
    /// `start` points to a socket address of `length` bytes that lives as long as the reference.
    pub(super) unsafe fn new(start: *const libc::c_void, length: libc::socklen_t) -> Self {
        NameRef { start, length, name: PhantomData }
    }
}

/// Waits for events, for at most `timeout` milliseconds; -1: without a limit (epoll_wait(2)). Returns their number.
pub(in crate::net) fn wait(epoll: impl AsFd, events: &mut [RawEvent], timeout: i32) -> io::Result<usize> {
    let (fd, room) = (epoll.as_fd().as_raw_fd(), i32::try_from(events.len()).unwrap_or(i32::MAX));
    let no_signals = null_mut::<libc::sigset_t>();
    // SAFETY: the pointer and the count are those of the slice, whose elements may hold any bits; without a signal set,
    // the kernel ignores its size.
    let result = unsafe {
        libc::syscall(libc::SYS_epoll_pwait, fd, events.as_mut_ptr(), room, timeout, no_signals, size_of::<u64>())
    };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Reads from a connected socket (recv(2)).
pub(in crate::net) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (fd, no_name) = (socket.as_fd().as_raw_fd(), null_mut::<libc::c_void>());
    // SAFETY: the pointer and the length are those of the slice; no address is asked for.
    let result = unsafe {
        libc::syscall(libc::SYS_recvfrom, fd, buffer.as_mut_ptr(), buffer.len(), 0 as libc::c_int, no_name, no_name)
    };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Receives the available datagrams, at most one for each header, without waiting (recvmmsg(2)).
///
/// # Safety
/// The memory that each header points to exists, has the length in the header, and is borrowed by nothing else.
pub(super) unsafe fn receive_many(socket: impl AsFd, headers: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let (fd, room) = (socket.as_fd().as_raw_fd(), libc::c_uint::try_from(headers.len()).unwrap_or(libc::c_uint::MAX));
    let (flags, no_timeout) = (libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC, null_mut::<libc::timespec>());
    // SAFETY: the pointer and the count are those of the slice; the caller guarantees what the headers point to.
    let result = unsafe { libc::syscall(libc::SYS_recvmmsg, fd, headers.as_mut_ptr(), room, flags, no_timeout) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Sends without waiting (sendto(2)): one datagram to a name, or bytes over a connected socket. A broken connection
/// raises no signal. Returns the number of bytes that the kernel took.
pub(in crate::net) fn send(socket: impl AsFd, bytes: &[u8], to: Option<NameRef<'_>>) -> io::Result<usize> {
    let (fd, flags) = (socket.as_fd().as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    let (name, length) = to.map_or((null(), 0), |name| (name.start, name.length));
    // SAFETY: the pointer and the length are those of the slice, and those of a borrowed name or none; the kernel only
    // reads both.
    let result = unsafe { libc::syscall(libc::SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, name, length) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
