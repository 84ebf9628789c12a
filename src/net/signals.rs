//! Signals, as bytes on a socket that the poller watches.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::low_level::pipe;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM, SIGINT: drain and end.
    End,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: log a summary.
    Summary,
}

const SIGNALS: [(i32, Request); 4] =
    [(SIGTERM, Request::End), (SIGINT, Request::End), (SIGHUP, Request::Reload), (SIGUSR1, Request::Summary)];

/// The signals that came, in the order of their numbers rather than of their coming.
#[derive(Debug)]
pub struct Signals {
    pipes: Vec<(Request, UnixStream)>,
}

impl Signals {
    /// Takes over the signals from now on.
    pub fn new() -> io::Result<Signals> {
        let mut pipes = Vec::new();
        for (signal, request) in SIGNALS {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            pipe::register(signal, writer)?;
            pipes.push((request, reader));
        }
        Ok(Signals { pipes })
    }

    /// What the poller is to watch.
    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pipes.iter().map(|(_, reader)| reader.as_fd())
    }

    /// Every request that has come since the last call, each as often as its signal came.
    pub fn take(&mut self) -> Vec<Request> {
        let mut requests = Vec::new();
        for (request, reader) in &mut self.pipes {
            let mut bytes = [0; 64];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                requests.extend(std::iter::repeat_n(*request, count));
            }
        }
        requests
    }
}
