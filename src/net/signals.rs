//! Signals, delivered as bytes on sockets that the poller can watch.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::low_level::pipe;

/// The request that a signal stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalRequest {
    /// SIGTERM, SIGINT: drain and exit.
    End,
    /// SIGHUP: reload the configuration.
    Reload,
    /// SIGUSR1: log a summary.
    Summary,
}

const SIGNALS: [(i32, SignalRequest); 4] = [
    (SIGTERM, SignalRequest::End),
    (SIGINT, SignalRequest::End),
    (SIGHUP, SignalRequest::Reload),
    (SIGUSR1, SignalRequest::Summary),
];

/// One socket pair for each handled signal; the handler writes a byte, the poller sees the other end become readable.
#[derive(Debug)]
pub struct SignalPipes {
    pipes: Vec<(SignalRequest, UnixStream)>,
}

impl SignalPipes {
    /// Installs the signal handlers.
    pub fn new() -> io::Result<SignalPipes> {
        let mut pipes = Vec::new();
        for (signal, request) in SIGNALS {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            pipe::register(signal, writer)?;
            pipes.push((request, reader));
        }
        Ok(SignalPipes { pipes })
    }

    /// The sockets to watch.
    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pipes.iter().map(|(_, reader)| reader.as_fd())
    }

    /// The requests since the last call, once for each signal that arrived. They are in the order of `SIGNALS`, not
    /// in the order of arrival.
    pub fn take(&mut self) -> Vec<SignalRequest> {
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
