//! Datagram sockets, UDP and Unix: bound, received from and sent by in batches. Knows addresses and bytes; who is registered, and what
//! a datagram says, is for others.

mod batch;
mod bind;
mod errno;
mod flow;
mod inbox;
#[cfg(test)]
mod tests;
mod unix_diag;
mod unix_peer;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::Socket;

pub use batch::{Batch, Destination, Fate, Outbox};
pub use errno::Trouble;
pub use flow::{FlowControl, InFlight, Stalled};
pub use inbox::{Datagram, Inbox, LocalAddress, Received, Sender};
pub use unix_peer::{PeerSocket, UnixPeer, Unwritable};

use super::inherited::Inherited;
use super::listener::Binding;
use super::sys;
use super::sys::control::space;
use super::sys::send::Prepared;
use super::unix_path::OwnedPath;
use bind::{bind_udp, bind_unix, set_buffers, set_udp_options, set_unix_options};
use errno::ReceiveTrouble;
use upcall_wire::address::{Address, Host, Transport};

/// The families, as far as they are different to send and to receive by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ipv4,
    Ipv6,
    Unix,
}

/// A bound datagram socket that many peers share.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: Socket,
    kind: Kind,
    address: Address,
    path: Option<OwnedPath>,
    /// Bytes of the control messages that come with each datagram.
    control: usize,
    /// Runs of datagrams are sent as one (UDP_SEGMENT).
    offload: AtomicBool,
    #[cfg(test)]
    faults: std::sync::Mutex<std::collections::VecDeque<i32>>,
}

/// What the kernel keeps of a socket's datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Bytes charged for what was sent and has not left yet; for a Unix socket, has not been read yet.
    pub sending: usize,
    /// How many it may be: a Unix socket is full for everybody then.
    pub send_buffer: usize,
    /// How many received datagrams were dropped for lack of room, since the socket was made; it wraps round.
    pub dropped: u32,
}

impl DatagramSocket {
    /// Binds. Errors are those of the system, with words where it has none.
    pub fn bind(address: &Address, binding: Binding) -> io::Result<DatagramSocket> {
        match address {
            Address::Inet { transport: Transport::Udp, host: Host::Ip(ip), port } => {
                bind_udp(SocketAddr::new(*ip, *port), binding.dual_stack, false)
            }
            Address::Unix { transport: Transport::UnixDatagram, name } => bind_unix(name, binding),
            other => Err(io::Error::new(io::ErrorKind::Unsupported, format!("cannot take datagrams on {other}"))),
        }
    }

    /// Binds where others of this process, which are about to be closed, may be in the way, over UDP only: they can still
    /// send, and what comes in the meantime reaches one of them. Errors are those of [`DatagramSocket::bind`].
    pub fn bind_beside(address: &Address, binding: Binding, others: &[&DatagramSocket]) -> io::Result<DatagramSocket> {
        let Address::Inet { transport: Transport::Udp, host: Host::Ip(ip), port } = address else {
            return DatagramSocket::bind(address, binding);
        };
        // All of them have to allow it, and for as long as it takes only. The kernel lets no other user's socket in.
        let share = |on| others.iter().try_for_each(|other| other.socket.set_reuse_port(on));
        let bound = share(true).and_then(|()| bind_udp(SocketAddr::new(*ip, *port), binding.dual_stack, true));
        share(false).and(bound)
    }

    /// Takes datagrams from a socket that was handed over. Errors are those of the system.
    pub fn inherit(inherited: &Inherited, binding: Binding) -> io::Result<DatagramSocket> {
        let (socket, address) = (inherited.socket()?, inherited.address().clone());
        set_buffers(&socket)?;
        match &address {
            Address::Inet { host: Host::Ip(ip), .. } => {
                let (kind, control) = set_udp_options(&socket, *ip, binding.dual_stack)?;
                Ok(DatagramSocket::udp(socket, kind, address, control))
            }
            _ => {
                set_unix_options(&socket)?;
                Ok(DatagramSocket::new(socket, Kind::Unix, address, None, space(size_of::<libc::ucred>()), false))
            }
        }
    }

    /// Removes the socket's file, so that another can have the path. It can still send and receive.
    pub fn give_back_path(&mut self) {
        self.path = None;
    }

    fn new(
        socket: Socket,
        kind: Kind,
        address: Address,
        path: Option<OwnedPath>,
        control: usize,
        offload: bool,
    ) -> DatagramSocket {
        DatagramSocket {
            socket,
            kind,
            address,
            path,
            control,
            offload: offload.into(),
            #[cfg(test)]
            faults: Default::default(),
        }
    }

    fn udp(socket: Socket, kind: Kind, address: Address, control: usize) -> DatagramSocket {
        // A kernel before 4.18 would not refuse a run, but send it as one datagram.
        let offload = sys::has_option(&socket, libc::SOL_UDP, libc::UDP_SEGMENT);
        DatagramSocket::new(socket, kind, address, None, control, offload)
    }

    /// Where it is bound, with the port that the kernel chose where none was asked for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Changes what can be changed of a binding while it stands: mode and group of a socket file.
    pub fn set_access(&self, binding: Binding) -> io::Result<()> {
        self.path.as_ref().map_or(Ok(()), |path| path.set_access(binding.mode, binding.group))
    }

    /// What the kernel keeps for it now.
    pub fn kept(&self) -> io::Result<Kept> {
        let memory = sys::memory(&self.socket)?;
        let (sending, send_buffer) = (memory.sending as usize, memory.send_buffer as usize);
        Ok(Kept { sending, send_buffer, dropped: memory.drops })
    }

    /// Takes as many datagrams as are there and the inbox has room for, in one system call. To be repeated until it is
    /// drained: a short batch can have been ended by an error that the next call reports.
    pub fn receive(&self, inbox: &mut Inbox) -> Received {
        loop {
            let error = match self.fault().map_or_else(|| inbox.slots.receive(&self.socket, self.control), Err) {
                Ok(count) => return Received::Datagrams(count),
                Err(error) => error,
            };
            return match ReceiveTrouble::of(error.raw_os_error().unwrap_or(libc::EINVAL)) {
                ReceiveTrouble::Interrupted => continue,
                ReceiveTrouble::Drained => Received::Drained,
                ReceiveTrouble::Elsewhere => Received::Elsewhere(error),
                ReceiveTrouble::Starved => Received::Starved,
                ReceiveTrouble::Broken => Received::Broken(error),
            };
        }
    }

    /// Begins a batch of messages to be sent.
    pub fn batch<'s, 'o, 'd>(&'s self, outbox: &'o mut Outbox) -> Batch<'s, 'o, 'd> {
        Batch::new(self, outbox)
    }

    fn offloads(&self) -> bool {
        self.offload.load(Ordering::Relaxed)
    }

    fn stop_offloading(&self) {
        self.offload.store(false, Ordering::Relaxed);
    }

    /// Sends prepared messages from `first` on: how many went, at least one, or the errno of the first.
    fn transmit(&self, prepared: &mut Prepared<'_>, first: usize) -> Result<usize, i32> {
        let result = self.fault().map_or_else(|| prepared.send(&self.socket, first), Err);
        result.map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
    }

    /// What the next system call is to fail with instead of being made.
    #[cfg(test)]
    fn fault(&self) -> Option<io::Error> {
        let errno = self.faults.lock().unwrap().pop_front().filter(|errno| *errno != 0);
        errno.map(io::Error::from_raw_os_error)
    }

    #[cfg(not(test))]
    fn fault(&self) -> Option<io::Error> {
        None
    }

    /// Makes the next calls of the kernel fail, each with one of these; 0 is a call that is made.
    #[cfg(test)]
    pub(crate) fn fail_next(&self, errnos: &[i32]) {
        self.faults.lock().unwrap().extend(errnos);
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
