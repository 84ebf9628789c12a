//! A stream as a link: bytes are written as they are, what comes is cut into upcalls, and closing our side asks the
//! daemon to confirm, by closing its own, that it has taken everything.

use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::splitter::Splitter;
use super::{End, Link, Take};
use upcall_client::socket::stream::StreamSocket;

/// Read from the socket at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// A connection, and what is under way on it.
pub(in crate::commands) struct StreamLink {
    connection: StreamSocket,
    linger: Duration,
    splitter: Splitter,
    buffer: Vec<u8>,
    last_read: Instant,
    /// To be written to the socket.
    out: Vec<u8>,
    half_closed: bool,
    linger_until: Option<Instant>,
    write_error: Option<io::Error>,
}

impl StreamLink {
    /// Waits `linger` for the daemon to close once everything is sent.
    pub(in crate::commands) fn new(connection: StreamSocket, linger: Duration) -> StreamLink {
        StreamLink {
            connection,
            linger,
            splitter: Splitter::default(),
            buffer: Vec::new(),
            last_read: Instant::now(),
            out: Vec::new(),
            half_closed: false,
            linger_until: None,
            write_error: None,
        }
    }

    fn quiet_at(&self) -> Option<Instant> {
        self.splitter.patience().map(|patience| self.last_read + patience)
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
        [self.quiet_at(), self.linger_until].into_iter().flatten().min()
    }

    fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Reads once, and hands on what has come.
    fn receive(&mut self, take: &mut Take<'_>) -> Option<End> {
        self.buffer.resize(CHUNK, 0);
        match self.connection.read(&mut self.buffer) {
            Ok(n @ 1..) => {
                self.last_read = Instant::now();
                self.splitter.push(&self.buffer[..n]);
                // Whoever takes remembers having had enough.
                let _ = self.splitter.lines(take);
                None
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
            ended => {
                // What came before the end was said all the same.
                let (rest, farewell) = mem::take(&mut self.splitter).finish();
                if !rest.is_empty() {
                    let _ = take(&rest);
                }
                Some(match (ended, self.write_error.take()) {
                    (Err(error), _) if farewell.is_none() => End::Broken(error),
                    (Err(_), _) => End::Closed { farewell, complete: false },
                    (Ok(_), Some(error)) if farewell.is_none() && error.kind() != ErrorKind::BrokenPipe => {
                        End::Broken(error)
                    }
                    (Ok(_), _) => End::Closed { farewell, complete: self.half_closed },
                })
            }
        }
    }

    /// Writes what fits, and closes our side behind the last of it.
    fn send(&mut self, last: bool) -> Option<End> {
        while !self.out.is_empty() {
            match self.connection.write(&self.out) {
                Ok(n) => {
                    self.out.drain(..n);
                    self.linger_until = self.linger_until.map(|_| Instant::now() + self.linger);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // Why is still to be read: the farewell, or the reset.
                    self.write_error = Some(error);
                    self.out.clear();
                }
            }
        }
        let last = last || self.write_error.is_some();
        if last && self.linger_until.is_none() {
            // From here on every byte that the daemon takes renews it, so that only a standstill counts.
            self.linger_until = Some(Instant::now() + self.linger);
        }
        if last && self.out.is_empty() && self.write_error.is_none() && !self.half_closed {
            // Where the connection is gone already, the next read says so.
            self.half_closed = self.connection.half_close().is_ok();
            self.linger_until = Some(Instant::now() + self.linger);
        }
        None
    }

    fn takes_more(&self) -> bool {
        self.write_error.is_none()
    }

    fn expire(&mut self, take: &mut Take<'_>) -> Option<End> {
        let now = Instant::now();
        if self.quiet_at().is_some_and(|at| at <= now) {
            let upcall = self.splitter.quiet();
            let _ = take(&upcall);
        }
        let lingered = self.linger_until.is_some_and(|until| until <= now);
        lingered.then_some(End::Lingered { unsent: !self.half_closed })
    }
}
