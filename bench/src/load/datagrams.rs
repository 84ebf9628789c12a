//! The sockets of the load over UDP and Unix datagrams, for text and native clients alike.

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
use crate::sys::{Inbox, Peer, Ready, epoll_wait, send_many, unix_peer};

/// Where a server takes datagrams.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Over UDP.
    Udp(SocketAddr),
    /// At the path of a Unix socket.
    Unix(PathBuf),
}

impl Place {
    /// Messages that may be outstanding: the kernel holds eleven datagrams for a Unix socket (net.unix.max_dgram_qlen), and who
    /// sends one more has to wait.
    pub(crate) fn window(&self) -> u32 {
        match self {
            Place::Udp(_) => 256,
            Place::Unix(_) => 8,
        }
    }
}

/// A socket, and where its datagrams go.
pub(crate) struct Socket {
    fd: OwnedFd,
    /// The server, for one that is not connected: those that are share a buffer.
    server: Option<Peer>,
}

impl Socket {
    /// One of its own address for each `index`.
    pub(crate) fn open(place: &Place, index: usize) -> io::Result<Socket> {
        let patience = Some(Duration::from_secs(10));
        let socket = match place {
            Place::Udp(server) => {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                socket.connect(server)?;
                socket.set_write_timeout(patience)?;
                Socket { fd: socket.into(), server: None }
            }
            Place::Unix(path) => {
                let name = format!("upcall-bench-{}-{index}", std::process::id());
                let name = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                let socket = UnixDatagram::bind_addr(&name)?;
                socket.set_write_timeout(patience)?;
                Socket { fd: socket.into(), server: Some(unix_peer(path)) }
            }
        };
        setsockopt(&socket.fd, sockopt::RcvBuf, &BUFFER)?;
        Ok(socket)
    }

    /// Sends all of them, waiting for room.
    pub(crate) fn send(&mut self, mut datagrams: &[&[u8]]) -> io::Result<()> {
        while !datagrams.is_empty() {
            let sent = send_many(self.fd.as_fd(), self.server.as_mut(), datagrams)?;
            datagrams = &datagrams[sent..];
        }
        Ok(())
    }

    /// Receives what there is, without waiting: how many.
    pub(crate) fn receive(&self, inbox: &mut Inbox) -> io::Result<usize> {
        inbox.receive(self.fd.as_fd())
    }
}

/// Waits for sockets, by their index.
pub(crate) struct Watch {
    epoll: Epoll,
    events: Vec<Ready>,
}

impl Watch {
    /// For nobody yet.
    pub(crate) fn new() -> io::Result<Watch> {
        Ok(Watch { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?, events: vec![Ready::NONE; 1024] })
    }

    /// For one more.
    pub(crate) fn add(&mut self, socket: &Socket, index: usize) -> io::Result<()> {
        Ok(self.epoll.add(&socket.fd, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?)
    }

    /// Waits: how many have something.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<usize> {
        epoll_wait(self.epoll.0.as_fd(), &mut self.events, Some(timeout))
    }

    /// Which one that was.
    pub(crate) fn index(&self, event: usize) -> usize {
        self.events[event].token() as usize
    }
}
