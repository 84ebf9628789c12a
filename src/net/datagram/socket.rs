//! The datagram socket that many peers share. `bind` binds it, `inbox` receives from it, `batch` sends over it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::Socket;
use upcall_wire::address::Address;

use crate::net::binding::Binding;
use crate::net::sys;
use crate::net::sys::send::Prepared;
use crate::net::unix_path::OwnedPath;

/// The families of sockets, insofar as sending and receiving differ between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
    Unix,
}

/// A bound datagram socket that many peers share.
#[derive(Debug)]
pub struct DatagramSocket {
    pub(super) socket: Socket,
    pub(super) family: Family,
    pub(super) address: Address,
    pub(super) path: Option<OwnedPath>,
    /// The room for the control messages of a received datagram, in bytes.
    pub(super) control_room: usize,
    /// Runs of datagrams are sent as one message (UDP_SEGMENT).
    offload: AtomicBool,
    #[cfg(test)]
    faults: std::sync::Mutex<std::collections::VecDeque<i32>>,
}

/// The memory that the kernel charges to a socket for its datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferUsage {
    /// Bytes charged for datagrams that were sent, but that the device has not transmitted or, over a Unix socket, the
    /// peer has not read yet.
    pub sending: usize,
    /// The most that may be charged for them, in bytes. While a Unix socket has reached it, nothing can be sent over
    /// it.
    pub send_buffer: usize,
    /// Received datagrams that were dropped because the buffer was full, since the socket was created; the counter
    /// wraps.
    pub dropped: u32,
}

impl DatagramSocket {
    pub(super) fn new(
        socket: Socket,
        family: Family,
        address: Address,
        path: Option<OwnedPath>,
        control_room: usize,
    ) -> DatagramSocket {
        // A kernel before 4.18 would not refuse a run, but would send it as one datagram.
        let offload = family != Family::Unix && sys::has_option(&socket, libc::SOL_UDP, libc::UDP_SEGMENT);
        DatagramSocket {
            socket,
            family,
            address,
            path,
            control_room,
            offload: offload.into(),
            #[cfg(test)]
            faults: Default::default(),
        }
    }

    /// Where it is bound; port 0 is replaced by the port that the kernel chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Changes the mode and group of a socket file, which can change while the socket stays bound.
    pub fn set_access(&self, binding: Binding) -> io::Result<()> {
        self.path.as_ref().map_or(Ok(()), |path| path.set_access(binding.mode, binding.group))
    }

    /// Removes the socket's file, so that another socket can have the path. This one can still send and receive.
    pub fn release_path(&mut self) {
        self.path = None;
    }

    /// The memory that the kernel charges to it now.
    pub fn buffer_usage(&self) -> io::Result<BufferUsage> {
        let memory = sys::memory(&self.socket)?;
        let (sending, send_buffer) = (memory.sending as usize, memory.send_buffer as usize);
        Ok(BufferUsage { sending, send_buffer, dropped: memory.drops })
    }

    pub(super) fn offloads(&self) -> bool {
        self.offload.load(Ordering::Relaxed)
    }

    pub(super) fn stop_offloading(&self) {
        self.offload.store(false, Ordering::Relaxed);
    }

    /// Sends prepared messages from `first` on. Returns how many were sent, at least one, or the errno of the first.
    pub(super) fn transmit(&self, prepared: &mut Prepared<'_>, first: usize) -> Result<usize, i32> {
        let result = self.fault().map_or_else(|| prepared.send(&self.socket, first), Err);
        result.map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
    }

    /// The error that a test has injected for the next system call.
    #[cfg(test)]
    pub(super) fn fault(&self) -> Option<io::Error> {
        let errno = self.faults.lock().unwrap().pop_front().filter(|errno| *errno != 0);
        errno.map(io::Error::from_raw_os_error)
    }

    #[cfg(not(test))]
    pub(super) fn fault(&self) -> Option<io::Error> {
        None
    }

    /// Makes the next system calls fail, each with one of these; for 0 the call is made.
    #[cfg(test)]
    pub(super) fn fail_next(&self, errnos: &[i32]) {
        self.faults.lock().unwrap().extend(errnos);
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
