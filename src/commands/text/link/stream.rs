//! A link over a stream. Lines are written unchanged, and the bytes that are read are split into upcalls. Once
//! everything is sent, our side is closed; the daemon closes its own to confirm that it has accepted everything.

use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use upcall_client::socket::stream::StreamSocket;

use super::splitter::Splitter;
use super::{Link, LinkEnd, OnUpcall};

/// How many bytes are read from the socket at a time.
const CHUNK: usize = 64 << 10;

/// A connection, with the buffers for both directions.
pub(in crate::commands) struct StreamLink {
    connection: StreamSocket,
    linger: Duration,
    splitter: Splitter,
    buffer: Vec<u8>,
    last_read: Instant,
    /// Bytes to write to the socket.
    out: Vec<u8>,
    write_side: WriteSide,
    /// The end of the time to linger, once nothing more is appended to `out`.
    linger_until: Option<Instant>,
}

/// Our side of the connection.
#[derive(Debug, Default)]
enum WriteSide {
    #[default]
    Open,
    /// Everything was sent and our side is closed.
    Closed,
    /// Writing failed. The reason may still be read: the farewell, or a reset.
    Failed(io::Error),
}

impl StreamLink {
    /// A link that waits `linger` for the daemon to close once everything is sent.
    pub(in crate::commands) fn new(connection: StreamSocket, linger: Duration) -> StreamLink {
        StreamLink {
            connection,
            linger,
            splitter: Splitter::default(),
            buffer: Vec::new(),
            last_read: Instant::now(),
            out: Vec::new(),
            write_side: WriteSide::Open,
            linger_until: None,
        }
    }

    fn flush_at(&self) -> Option<Instant> {
        self.splitter.wait_limit().map(|limit| self.last_read + limit)
    }
}

impl Link for StreamLink {
    fn fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }

    fn wants_room(&self) -> bool {
        !self.out.is_empty()
    }

    fn due(&self) -> Option<Instant> {
        [self.flush_at(), self.linger_until].into_iter().flatten().min()
    }

    fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Reads once, and passes on complete upcalls.
    fn receive(&mut self, on_upcall: &mut OnUpcall<'_>) -> Option<LinkEnd> {
        self.buffer.resize(CHUNK, 0);
        match self.connection.read(&mut self.buffer) {
            Ok(n @ 1..) => {
                self.last_read = Instant::now();
                self.splitter.push(&self.buffer[..n]);
                // The exchange knows whether its sink wants no more.
                let _ = self.splitter.lines(on_upcall);
                None
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
            ended => {
                // What arrived before the end is still an upcall.
                let (rest, farewell) = mem::take(&mut self.splitter).finish();
                if !rest.is_empty() {
                    let _ = on_upcall(&rest);
                }
                Some(match (ended, mem::take(&mut self.write_side)) {
                    (Err(error), _) if farewell.is_none() => LinkEnd::Broken(error),
                    (Err(_), _) => LinkEnd::Closed { farewell, complete: false },
                    (Ok(_), WriteSide::Failed(error))
                        if farewell.is_none() && error.kind() != ErrorKind::BrokenPipe =>
                    {
                        LinkEnd::Broken(error)
                    }
                    (Ok(_), side) => LinkEnd::Closed { farewell, complete: matches!(side, WriteSide::Closed) },
                })
            }
        }
    }

    /// Writes what fits, and closes our side after the last byte.
    fn send(&mut self, last: bool) -> Option<LinkEnd> {
        while !self.out.is_empty() {
            match self.connection.write(&self.out) {
                Ok(n) => {
                    self.out.drain(..n);
                    self.linger_until = self.linger_until.map(|_| Instant::now() + self.linger);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.write_side = WriteSide::Failed(error);
                    self.out.clear();
                }
            }
        }
        let last = last || !self.is_writable();
        if last && self.linger_until.is_none() {
            // Each byte that the daemon accepts from now on renews this time, so that only a standstill counts.
            self.linger_until = Some(Instant::now() + self.linger);
        }
        if last && self.out.is_empty() && matches!(self.write_side, WriteSide::Open) {
            // If this fails, the connection is gone, and the next read returns the reason.
            if self.connection.half_close().is_ok() {
                self.write_side = WriteSide::Closed;
            }
            self.linger_until = Some(Instant::now() + self.linger);
        }
        None
    }

    fn is_writable(&self) -> bool {
        !matches!(self.write_side, WriteSide::Failed(_))
    }

    fn expire(&mut self, on_upcall: &mut OnUpcall<'_>) -> Option<LinkEnd> {
        let now = Instant::now();
        if self.flush_at().is_some_and(|at| at <= now) {
            let upcall = self.splitter.flush();
            let _ = on_upcall(&upcall);
        }
        let lingered = self.linger_until.is_some_and(|until| until <= now);
        lingered.then_some(LinkEnd::Lingered { unsent: !matches!(self.write_side, WriteSide::Closed) })
    }
}
