//! The datagram sockets of the load, over UDP and Unix, for text and native clients.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{setsockopt, sockopt};

use crate::floor::datagram::BUFFER;
use crate::sys::{DatagramBatch, ReadyEvent, SocketAddress, epoll_wait, send_many, unix_peer};

/// Where a server receives datagrams.
#[derive(Debug, Clone)]
pub(crate) enum DatagramAddress {
    /// On UDP.
    Udp(SocketAddr),
    /// On a Unix socket at this path.
    Unix(PathBuf),
}

impl DatagramAddress {
    /// How many messages may be outstanding. The kernel queues eleven datagrams for a Unix socket
    /// (net.unix.max_dgram_qlen), and blocks senders while the queue is full.
    pub(crate) fn window(&self) -> u32 {
        match self {
            DatagramAddress::Udp(_) => 256,
            DatagramAddress::Unix(_) => 8,
        }
    }
}

/// A socket, and the destination of its datagrams.
pub(crate) struct LoadSocket {
    fd: OwnedFd,
    /// The server, for a Unix socket: it is not connected, because connected sockets share a buffer.
    server: Option<SocketAddress>,
}

impl LoadSocket {
    /// Opens a socket. Its address differs for each `index`.
    pub(crate) fn open(address: &DatagramAddress, index: usize) -> io::Result<LoadSocket> {
        let timeout = Some(Duration::from_secs(10));
        let socket = match address {
            DatagramAddress::Udp(server) => {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                socket.connect(server)?;
                socket.set_write_timeout(timeout)?;
                LoadSocket { fd: socket.into(), server: None }
            }
            DatagramAddress::Unix(path) => {
                let name = format!("upcall-bench-{}-{index}", std::process::id());
                let name = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                let socket = UnixDatagram::bind_addr(&name)?;
                socket.set_write_timeout(timeout)?;
                LoadSocket { fd: socket.into(), server: Some(unix_peer(path)) }
            }
        };
        setsockopt(&socket.fd, sockopt::RcvBuf, &BUFFER)?;
        Ok(socket)
    }

    /// Sends all datagrams, blocking until there is room.
    pub(crate) fn send(&mut self, mut datagrams: &[&[u8]]) -> io::Result<()> {
        while !datagrams.is_empty() {
            let sent = send_many(self.fd.as_fd(), self.server.as_mut(), datagrams)?;
            datagrams = &datagrams[sent..];
        }
        Ok(())
    }

    /// Receives without blocking. Returns the number of datagrams.
    pub(crate) fn receive(&self, batch: &mut DatagramBatch) -> io::Result<usize> {
        batch.receive(self.fd.as_fd())
    }
}

/// Waits for sockets, each with an index.
pub(crate) struct SocketPoll {
    epoll: Epoll,
    events: Vec<ReadyEvent>,
}

impl SocketPoll {
    /// Without sockets.
    pub(crate) fn new() -> io::Result<SocketPoll> {
        Ok(SocketPoll { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, events: vec![ReadyEvent::NONE; 1024] })
    }

    /// Adds a socket.
    pub(crate) fn add(&mut self, socket: &LoadSocket, index: usize) -> io::Result<()> {
        Ok(self.epoll.add(&socket.fd, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?)
    }

    /// Waits until a socket is readable. Returns how many are.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        epoll_wait(self.epoll.0.as_fd(), &mut self.events, Some(timeout))
    }

    /// The index of a socket that the last wait returned.
    pub(crate) fn index(&self, event: usize) -> usize {
        self.events[event].token() as usize
    }
}
