//! A bare loop over one datagram socket: every source of a datagram is a peer, and each datagram is sent to all peers
//! by one `sendmmsg`.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{setsockopt, sockopt};

use super::ready::announce_ready;
use crate::sys::{DatagramBatch, ReadyEvent, SendHeaders, SocketAddress, epoll_wait, send_to_all};

/// The datagram that registers a peer. It is not sent on.
pub(crate) const JOIN: &[u8] = b"join";

/// Bytes to request for the socket's buffers. The system may grant less.
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
    let mut batch = DatagramBatch::new(2048);
    let mut headers = SendHeaders::default();
    let mut peers: Vec<SocketAddress> = Vec::new();
    let mut events = [ReadyEvent::NONE; 8];
    announce_ready()?;
    loop {
        epoll_wait(epoll.0.as_fd(), &mut events, None)?;
        let count = batch.receive(socket.as_fd())?;
        for i in 0..count {
            let peer = batch.peer(i);
            // The publisher registered last, so a search from the end finds it immediately.
            if !peers.iter().rev().any(|known| known.bytes() == peer.bytes()) {
                peers.push(*peer);
            }
            if batch.datagram(i) != JOIN {
                send_to_all(socket.as_fd(), batch.datagram(i), &mut peers, &mut headers);
            }
        }
    }
}
