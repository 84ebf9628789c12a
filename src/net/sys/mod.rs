//! System calls that no crate wraps: the only module with unsafe code. Returns the system's errors unchanged; the
//! callers interpret them.
#![allow(unsafe_code)]

pub(super) mod control;
pub(super) mod handover;
pub(super) mod hot;
pub(super) mod receive;
pub(super) mod send;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// The most groups that a process can have (NGROUPS_MAX, credentials(7)).
const MAX_GROUPS: usize = 65_536;

/// Returns freed memory to the kernel, even from the middle of the heap (malloc_trim(3)). Does nothing unless the
/// allocator is that of the GNU C library; others do it by themselves, or cannot.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches free memory only, under the allocator's lock.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The supplementary groups of the process that connected a Unix socket, as they were at that time (SO_PEERGROUPS,
/// socket(7)).
pub fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let fd = socket.as_fd().as_raw_fd();
    let mut groups = vec![0 as libc::gid_t; 64];
    loop {
        let mut bytes = (groups.len() * size_of::<libc::gid_t>()) as libc::socklen_t;
        // SAFETY: the pointer and the length in bytes are those of the vector, whose elements may hold any bits.
        let result = unsafe {
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERGROUPS, groups.as_mut_ptr().cast(), &raw mut bytes)
        };
        if result == 0 {
            groups.truncate(bytes as usize / size_of::<libc::gid_t>());
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // On ERANGE, the kernel has set the length that it needs.
        let wanted = bytes as usize / size_of::<libc::gid_t>();
        if error.raw_os_error() != Some(libc::ERANGE) || wanted <= groups.len() || wanted > MAX_GROUPS {
            return Err(error);
        }
        groups.resize(wanted, 0);
    }
}

/// The state of a TCP connection that concerns its peer (TCP_INFO, tcp(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TcpInfo {
    /// Segments that were sent and not acknowledged.
    pub(super) unacknowledged: u32,
    /// Window probes that were sent and not answered.
    pub(super) probes: u8,
    /// Time since the last acknowledgement, in whole milliseconds.
    pub(super) silence: Duration,
}

pub(super) fn tcp_info(socket: impl AsFd) -> io::Result<TcpInfo> {
    let fd = socket.as_fd().as_raw_fd();
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut bytes = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of `info`; the kernel writes at most that many bytes.
    let result =
        unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut bytes) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the structure consists of integers and was zeroed; where an older kernel writes less of it, zeros remain.
    let info = unsafe { info.assume_init() };
    Ok(TcpInfo {
        unacknowledged: info.tcpi_unacked,
        probes: info.tcpi_probes,
        silence: Duration::from_millis(info.tcpi_last_ack_recv.into()),
    })
}

/// Sets an option that is an int (setsockopt(2)).
pub(super) fn set_option(
    socket: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of `value`, which the kernel only reads.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the kernel knows an option that is an int.
pub(super) fn has_option(socket: impl AsFd, level: libc::c_int, name: libc::c_int) -> bool {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer and the length are those of `value`.
    let result =
        unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length) };
    result == 0
}

/// The memory that the kernel charges to a socket (SO_MEMINFO, linux/sock_diag.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketMemory {
    /// Bytes charged to the send buffer.
    pub(super) sending: u32,
    /// Size of the send buffer, in bytes.
    pub(super) send_buffer: u32,
    /// Datagrams that were dropped because the receive buffer was full.
    pub(super) drops: u32,
}

pub(super) fn memory(socket: impl AsFd) -> io::Result<SocketMemory> {
    // SK_MEMINFO_WMEM_ALLOC, SK_MEMINFO_SNDBUF and SK_MEMINFO_DROPS of the SK_MEMINFO_VARS = 9 values.
    let mut values = [0u32; 9];
    let mut length = size_of_val(&values) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the pointer and the length are those of the array; the kernel writes at most that many bytes.
    let result = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, values.as_mut_ptr().cast(), &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(SocketMemory { sending: values[2], send_buffer: values[3], drops: values[8] })
}

/// Bytes that were written and are not yet acknowledged (SIOCOUTQ, tcp(7)) or, over a Unix socket, not yet read
/// (unix(7)).
pub(super) fn unsent(socket: impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int to the address that it is given.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}
