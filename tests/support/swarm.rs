//! Many endpoints, read by one thread.

use std::io::{ErrorKind, Read};
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{DEADLINE, Daemon, Stream};

/// Registered endpoints that read what they get.
pub(crate) struct Swarm {
    streams: Vec<Stream>,
}

impl Swarm {
    /// Connects `count` endpoints, to each of the listeners in turn, and waits until the daemon has registered them.
    pub(crate) fn join(daemon: &Daemon, listeners: &[&str], count: usize) -> Swarm {
        let before = daemon.connected();
        let urls: Vec<String> = listeners.iter().map(|listener| daemon.url(listener)).collect();
        let swarm = Swarm::of((0..count).map(|index| Stream::connect(&urls[index % urls.len()])).collect());
        daemon.wait_connected(before + count);
        swarm
    }

    pub(crate) fn of(streams: Vec<Stream>) -> Swarm {
        Swarm { streams }
    }

    pub(crate) fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Reads until every endpoint has got `expected`, and nothing else. `progress` is called with an endpoint and the
    /// number of bytes that it has so far.
    pub(crate) fn expect_each(&mut self, expected: &[u8], mut progress: impl FnMut(usize, usize)) {
        let mut got = vec![0; self.streams.len()];
        self.read(|index, bytes| {
            let from = got[index];
            got[index] += bytes.len();
            assert!(
                expected.get(from..got[index]) == Some(bytes),
                "endpoint {index}, behind byte {from} of {}: \"{}\"",
                expected.len(),
                bytes[..bytes.len().min(200)].escape_ascii()
            );
            progress(index, got[index]);
            got[index] == expected.len()
        });
    }

    /// Reads until every endpoint has got `length` bytes or more; what each got.
    pub(crate) fn collect(&mut self, length: usize) -> Vec<Vec<u8>> {
        let mut got = vec![Vec::with_capacity(length); self.streams.len()];
        self.read(|index, bytes| {
            got[index].extend_from_slice(bytes);
            got[index].len() >= length
        });
        got
    }

    /// Calls `is_done` with an endpoint and what it has received, until it has returned true for every endpoint. Gives
    /// up when nothing at all arrives for the length of the deadline.
    pub(crate) fn read(&mut self, mut is_done: impl FnMut(usize, &[u8]) -> bool) {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("a descriptor");
        for (index, stream) in self.streams.iter().enumerate() {
            stream.socket().set_nonblocking(true).expect("the option exists");
            epoll.add(stream, EpollEvent::new(EpollFlags::EPOLLIN, index as u64)).expect("room in the epoll set");
        }
        let mut buffer = vec![0; 1 << 18];
        let mut events = [EpollEvent::empty(); 256];
        let (mut left, mut last) = (self.streams.len(), Instant::now());
        while left > 0 {
            assert!(last.elapsed() < DEADLINE, "{left} of {} endpoints have not got everything", self.streams.len());
            // An interrupted wait reports nothing.
            let count = epoll.wait(&mut events, EpollTimeout::from(200u8)).unwrap_or(0);
            if count > 0 {
                last = Instant::now();
            }
            for event in &events[..count] {
                let index = event.data() as usize;
                let mut stream = &self.streams[index];
                match stream.read(&mut buffer) {
                    Ok(0) => panic!("endpoint {index} was disconnected"),
                    Ok(count) if is_done(index, &buffer[..count]) => {
                        epoll.delete(&self.streams[index]).expect("it is in the epoll set");
                        left -= 1;
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => panic!("endpoint {index}: {error}"),
                }
            }
        }
        for stream in &self.streams {
            stream.socket().set_nonblocking(false).expect("the option exists");
        }
    }
}

/// Raises this process's limit of open files; whether `needed` are allowed then.
pub(crate) fn allow_files(needed: u64) -> bool {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is such a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit is allowed");
    hard >= needed
}
