//! A bare loop over one datagram socket: whoever ever sent is a peer, and each datagram is sent to all peers by one `sendmmsg`.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{setsockopt, sockopt};

use crate::sys::{Headers, Inbox, Peer, Ready, epoll_wait, send_to_all};

/// What registers a peer, and is not sent on.
pub(crate) const JOIN: &[u8] = b"join";

/// Bytes of the socket's buffers, as far as the system allows.
pub(crate) const BUFFER: usize = 1 << 20;

/// Serves UDP.
pub(crate) fn udp(address: SocketAddr) -> io::Result<()> {
    serve(&UdpSocket::bind(address)?)
}

/// Serves a Unix datagram socket.
pub(crate) fn unix(path: &Path) -> io::Result<()> {
    serve(&UnixDatagram::bind(path)?)
}

fn serve(socket: &impl AsFd) -> io::Result<()> {
    setsockopt(socket, sockopt::RcvBuf, &BUFFER)?;
    setsockopt(socket, sockopt::SndBuf, &BUFFER)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    let mut inbox = Inbox::new(2048);
    let mut headers = Headers::default();
    let mut peers: Vec<Peer> = Vec::new();
    let mut events = [Ready::NONE; 8];
    super::ready()?;
    loop {
        epoll_wait(epoll.0.as_fd(), &mut events, None)?;
        let count = inbox.receive(socket.as_fd())?;
        for i in 0..count {
            let peer = inbox.peer(i);
            // The publisher came last: it is found at once.
            if !peers.iter().rev().any(|known| known.bytes() == peer.bytes()) {
                peers.push(*peer);
            }
            if inbox.datagram(i) != JOIN {
                send_to_all(socket.as_fd(), inbox.datagram(i), &mut peers, &mut headers);
            }
        }
    }
}
