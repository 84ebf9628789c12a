//! System calls that std and nix lack or make expensive: several datagrams in one call, and a wait with a timeout
//! finer than a millisecond. This is the only module with unsafe code.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// The address of the sender or receiver of a datagram, as the kernel stores it.
#[derive(Clone, Copy)]
pub(crate) struct SocketAddress {
    address: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl SocketAddress {
    const fn none() -> SocketAddress {
        // SAFETY: every field of sockaddr_storage may be zero.
        SocketAddress { address: unsafe { std::mem::zeroed() }, length: 0 }
    }

    /// The bytes of the address. Two addresses are the same if these are.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the structure is larger than any address that the kernel writes, and `length` bytes of it were
        // written.
        unsafe {
            std::slice::from_raw_parts(
                (&raw const self.address).cast(),
                (self.length as usize).min(size_of::<libc::sockaddr_storage>()),
            )
        }
    }
}

/// The most datagrams in one call.
pub(crate) const BATCH: usize = 64;

/// Datagrams received by one call.
pub(crate) struct DatagramBatch {
    room: usize,
    bytes: Vec<u8>,
    lengths: [usize; BATCH],
    peers: [SocketAddress; BATCH],
}

impl DatagramBatch {
    /// Room for `BATCH` datagrams of at most `room` bytes.
    pub(crate) fn new(room: usize) -> DatagramBatch {
        DatagramBatch { room, bytes: vec![0; room * BATCH], lengths: [0; BATCH], peers: [SocketAddress::none(); BATCH] }
    }

    /// Receives without blocking (recvmmsg(2)). Returns the number of datagrams, 0 if there are none.
    pub(crate) fn receive(&mut self, socket: BorrowedFd) -> io::Result<usize> {
        // SAFETY: every field of these structures may be zero.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut vectors: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
        for (i, (header, vector)) in headers.iter_mut().zip(&mut vectors).enumerate() {
            vector.iov_base = self.bytes[i * self.room..].as_mut_ptr().cast();
            vector.iov_len = self.room;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut self.peers[i].address).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
        }
        // SAFETY: the headers point to buffers and addresses of the lengths given, which outlive the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as _,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) };
        }
        for (i, header) in headers.iter().enumerate().take(count as usize) {
            self.lengths[i] = header.msg_len as usize;
            self.peers[i].length = header.msg_hdr.msg_namelen;
        }
        Ok(count as usize)
    }

    /// The payload of a datagram of the last call.
    pub(crate) fn datagram(&self, i: usize) -> &[u8] {
        &self.bytes[i * self.room..][..self.lengths[i]]
    }

    /// The sender of a datagram of the last call.
    pub(crate) fn peer(&self, i: usize) -> &SocketAddress {
        &self.peers[i]
    }
}

/// Sends the same bytes to each of `peers`, blocking until there is room (sendmmsg(2)). Peers that are gone are
/// skipped.
pub(crate) fn send_to_all(socket: BorrowedFd, bytes: &[u8], peers: &mut [SocketAddress], headers: &mut SendHeaders) {
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    headers.0.resize_with(peers.len(), || {
        // SAFETY: every field may be zero.
        unsafe { std::mem::zeroed() }
    });
    for (header, peer) in headers.0.iter_mut().zip(peers.iter_mut()) {
        header.msg_hdr.msg_name = (&raw mut peer.address).cast();
        header.msg_hdr.msg_namelen = peer.length;
        header.msg_hdr.msg_iov = &raw mut vector;
        header.msg_hdr.msg_iovlen = 1;
    }
    let mut done = 0;
    while done < peers.len() {
        // SAFETY: the headers point to the vector and to addresses, which outlive the call; the kernel only reads them.
        let sent =
            unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.0[done..].as_mut_ptr(), (peers.len() - done) as _, 0) };
        done += usize::try_from(sent).ok().filter(|&sent| sent > 0).unwrap_or(1);
    }
}

/// Memory for `send_to_all`, kept between calls.
#[derive(Default)]
pub(crate) struct SendHeaders(Vec<libc::mmsghdr>);

/// Sends datagrams over a connected socket, or to `peer`, blocking until there is room. Returns how many were sent,
/// at most `BATCH`.
pub(crate) fn send_many(
    socket: BorrowedFd,
    peer: Option<&mut SocketAddress>,
    datagrams: &[&[u8]],
) -> io::Result<usize> {
    // SAFETY: every field of these structures may be zero.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut vectors: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
    let (name, length) = peer.map_or((std::ptr::null_mut(), 0), |peer| (&raw mut peer.address, peer.length));
    let count = datagrams.len().min(BATCH);
    for ((header, vector), bytes) in headers.iter_mut().zip(&mut vectors).zip(datagrams) {
        vector.iov_base = bytes.as_ptr().cast_mut().cast();
        vector.iov_len = bytes.len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = name.cast();
        header.msg_hdr.msg_namelen = length;
    }
    // SAFETY: the headers point to vectors, bytes and an address that outlive the call; the kernel only reads them.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as _, 0) };
    if sent >= 0 { Ok(sent as usize) } else { Err(io::Error::last_os_error()) }
}

/// The address of a Unix socket at a path.
pub(crate) fn unix_peer(path: &std::path::Path) -> SocketAddress {
    use std::os::unix::ffi::OsStrExt;
    let mut peer = SocketAddress::none();
    let bytes = path.as_os_str().as_bytes();
    let start = std::mem::offset_of!(libc::sockaddr_un, sun_path);
    let room = size_of::<libc::sockaddr_un>() - start - 1;
    let bytes = &bytes[..bytes.len().min(room)];
    // SAFETY: sockaddr_storage is larger than sockaddr_un, and zeroed behind the path.
    unsafe {
        let raw: *mut u8 = (&raw mut peer.address).cast();
        peer.address.ss_family = libc::AF_UNIX as _;
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), raw.add(start), bytes.len());
    }
    peer.length = (start + bytes.len() + 1) as _;
    peer
}

/// An event of epoll.
#[derive(Clone, Copy)]
pub(crate) struct ReadyEvent(libc::epoll_event);

impl ReadyEvent {
    /// An empty event, to make room for events.
    pub(crate) const NONE: ReadyEvent = ReadyEvent(libc::epoll_event { events: 0, u64: 0 });

    /// The token that the file was added with.
    pub(crate) fn token(&self) -> u64 {
        self.0.u64
    }
}

/// Waits for events (epoll_pwait2(2)), without a timeout forever. Returns how many there are.
pub(crate) fn epoll_wait(epoll: BorrowedFd, events: &mut [ReadyEvent], timeout: Option<Duration>) -> io::Result<usize> {
    let timeout =
        timeout.map(|timeout| libc::timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as _ });
    let pointer = timeout.as_ref().map_or(std::ptr::null(), |timeout| &raw const *timeout);
    // SAFETY: `ReadyEvent` is an epoll_event and nothing else, there is room for `events.len()` of them, and the
    // timeout outlives the call.
    let count = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll.as_raw_fd(),
            events.as_mut_ptr().cast::<libc::epoll_event>(),
            events.len() as libc::c_int,
            pointer,
            std::ptr::null::<libc::sigset_t>(),
            size_of::<libc::sigset_t>(),
        )
    };
    if count >= 0 {
        return Ok(count as usize);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) }
}

/// Raises our priority to the highest of ordinary processes, if permitted (setpriority(2)).
pub(crate) fn raise_priority() {
    // SAFETY: the call takes numbers only.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
}

/// Pins a child to a core, and makes it end when we end. Both happen between fork and exec.
pub(crate) fn prepare_child(command: &mut std::process::Command, core: usize) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec there are only system calls that are async-signal-safe, and no allocation.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(core, &mut set);
            if libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}
