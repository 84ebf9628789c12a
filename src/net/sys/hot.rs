//! The calls of which a turn that has one message to carry is made, over streams and over datagrams. By their numbers: the C
//! library's own are points at which a thread can be cancelled (pthreads(7)), for which each pays two locked instructions once
//! there has been a thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::null_mut;

/// What epoll says of one registration (epoll_event(3type)).
pub(in crate::net) type Event = libc::epoll_event;

/// Waits for events, at most for so many milliseconds; -1: for ever (epoll_wait(2)). Returns how many there are.
pub(in crate::net) fn wait(epoll: impl AsFd, events: &mut [Event], timeout: i32) -> io::Result<usize> {
    let (fd, room) = (epoll.as_fd().as_raw_fd(), i32::try_from(events.len()).unwrap_or(i32::MAX));
    let no_signals = null_mut::<libc::sigset_t>();
    // SAFETY: the pointer and the count are those of the slice, whose elements may hold any bits; without a set of signals, its
    // size is not looked at.
    let result = unsafe {
        libc::syscall(libc::SYS_epoll_pwait, fd, events.as_mut_ptr(), room, timeout, no_signals, size_of::<u64>())
    };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Reads from a connected socket (recv(2)).
pub(in crate::net) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (fd, nobody) = (socket.as_fd().as_raw_fd(), null_mut::<libc::c_void>());
    // SAFETY: the pointer and the length are those of the slice; no address is asked for.
    let result = unsafe {
        libc::syscall(libc::SYS_recvfrom, fd, buffer.as_mut_ptr(), buffer.len(), 0 as libc::c_int, nobody, nobody)
    };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Takes datagrams without waiting, as many as are there and have a header (recvmmsg(2)).
///
/// # Safety
/// What each header points to is there, as long as the header says, and is lent to nobody else.
pub(super) unsafe fn receive_many(socket: impl AsFd, headers: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let (fd, room) = (socket.as_fd().as_raw_fd(), libc::c_uint::try_from(headers.len()).unwrap_or(libc::c_uint::MAX));
    let (flags, no_timeout) = (libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC, null_mut::<libc::timespec>());
    // SAFETY: the pointer and the count are those of the slice; the caller vouches for what the headers point to.
    let result = unsafe { libc::syscall(libc::SYS_recvmmsg, fd, headers.as_mut_ptr(), room, flags, no_timeout) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Sends one datagram without waiting (sendto(2)).
///
/// # Safety
/// `name` points to a socket address of `length` bytes.
pub(super) unsafe fn send_to(
    socket: impl AsFd,
    bytes: &[u8],
    name: *const libc::c_void,
    length: libc::socklen_t,
) -> io::Result<()> {
    let (fd, flags) = (socket.as_fd().as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    // SAFETY: the pointer and the length are those of the slice, and the caller vouches for the name; both are only read.
    let result = unsafe { libc::syscall(libc::SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, name, length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes to a connected socket (send(2)); one that is broken makes no signal.
pub(in crate::net) fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let (fd, nobody) = (socket.as_fd().as_raw_fd(), null_mut::<libc::c_void>());
    let (flags, no_length) = (libc::MSG_NOSIGNAL, 0 as libc::socklen_t);
    // SAFETY: the pointer and the length are those of the slice, which the kernel only reads; no address is given.
    let result = unsafe { libc::syscall(libc::SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, nobody, no_length) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
