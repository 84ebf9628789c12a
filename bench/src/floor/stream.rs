//! A bare epoll loop over connections: what it reads from one, up to 64 KiB at a time, it writes to each of them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{Backlog, listen};

use super::ready::announce_ready;
use crate::sys::{ReadyEvent, epoll_wait};

/// The token of the listener. That of a connection is its index in the table.
const LISTENER: u64 = u64::MAX;

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// Serves TCP.
pub(crate) fn tcp(address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    listen(&listener, Backlog::MAXCONN)?;
    serve(listener.as_fd().try_clone_to_owned()?, || {
        let (connection, _) = listener.accept()?;
        connection.set_nodelay(true)?;
        Ok(connection.into())
    })
}

/// Serves a Unix stream socket.
pub(crate) fn unix(path: &Path) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    listen(&listener, Backlog::MAXCONN)?;
    serve(listener.as_fd().try_clone_to_owned()?, || Ok(listener.accept()?.0.into()))
}

fn serve(listener: OwnedFd, mut accept: impl FnMut() -> io::Result<OwnedFd>) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    // The entry of a closed connection stays empty, so that a token is never reused.
    let mut connections: Vec<Option<File>> = Vec::new();
    let mut buffer = vec![0; CHUNK];
    let mut events = [ReadyEvent::NONE; 1024];
    announce_ready()?;
    loop {
        let count = epoll_wait(epoll.0.as_fd(), &mut events, None)?;
        for event in &events[..count] {
            if event.token() == LISTENER {
                let connection = File::from(accept()?);
                epoll.add(&connection, EpollEvent::new(EpollFlags::EPOLLIN, connections.len() as u64))?;
                connections.push(Some(connection));
                continue;
            }
            let index = event.token() as usize;
            let Some(connection) = &mut connections[index] else { continue };
            match connection.read(&mut buffer) {
                Ok(0) | Err(_) => connections[index] = None,
                Ok(length) => {
                    for mut connection in connections.iter().flatten() {
                        // The error is reported again when this connection is read.
                        let _ = connection.write_all(&buffer[..length]);
                    }
                }
            }
        }
    }
}
