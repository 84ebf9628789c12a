//! A relay for datagrams that loses, duplicates and reorders them, on loopback or between Unix sockets. A seed decides.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A relay between one client and the daemon.
pub(crate) struct Relay {
    url: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Passed, lost, duplicated, late.
    counts: [AtomicU64; 4],
    client: Mutex<Option<Peer>>,
}

impl Relay {
    /// Starts a relay between the daemon at `url` and one client. In each direction it loses a fifth, duplicates a
    /// tenth, and delays a quarter, so that later datagrams overtake those.
    pub(crate) fn start(url: &str, seed: u64) -> Relay {
        let (_, place) = url.split_once("://").expect("a URL");
        let (daemon, inner, outer, url) = match place.strip_prefix('@') {
            Some(name) => {
                let [front, back] = [unique(), unique()];
                let bind = |name| Socket::Unix(UnixDatagram::bind_addr(&name).expect("the name is free"));
                let [inner, outer] = [&front, &back].map(|name| bind(abstract_address(name)));
                (Peer::Unix(abstract_address(name)), inner, outer, format!("unix-datagram://@{front}"))
            }
            None => {
                let address: SocketAddr = place.parse().expect("a literal address");
                let bind = || {
                    let socket = UdpSocket::bind((address.ip(), 0)).expect("a port is free");
                    // Only the relay itself may lose datagrams.
                    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20);
                    socket
                };
                let (inner, outer) = (bind(), bind());
                let url = format!("udp://{}", inner.local_addr().expect("it is bound"));
                (Peer::Udp(address), Socket::Udp(inner), Socket::Udp(outer), url)
            }
        };
        inner.set_nonblocking();
        outer.set_nonblocking();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || run(&theirs, [&inner, &outer], &daemon, seed));
        Relay { url, shared, thread: Some(thread) }
    }

    /// Where the client connects to.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn counts(&self) -> (u64, u64, u64, u64) {
        let [passed, lost, doubled, late] = self.shared.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        (passed, lost, doubled, late)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn unique() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("upcalld-test-relay-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn abstract_address(name: &str) -> UnixAddr {
    UnixAddr::from_abstract_name(name).expect("short")
}

#[derive(Clone)]
enum Peer {
    Udp(SocketAddr),
    Unix(UnixAddr),
}

enum Socket {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Socket {
    fn set_nonblocking(&self) {
        match self {
            Socket::Udp(socket) => socket.set_nonblocking(true),
            Socket::Unix(socket) => socket.set_nonblocking(true),
        }
        .expect("the option exists");
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        match self {
            Socket::Udp(socket) => socket.recv_from(buffer).map(|(length, from)| (length, Peer::Udp(from))),
            Socket::Unix(socket) => socket.recv_from(buffer).map(|(length, from)| (length, Peer::Unix(from))),
        }
    }

    /// What a full socket does not take is lost, as on a network.
    fn send(&self, bytes: &[u8], to: &Peer) {
        let _ = match (self, to) {
            (Socket::Udp(socket), Peer::Udp(to)) => socket.send_to(bytes, to),
            (Socket::Unix(socket), Peer::Unix(to)) => socket.send_to_addr(bytes, to),
            _ => Ok(0),
        };
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Udp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

/// `sockets`: towards the client, towards the daemon.
fn run(shared: &Shared, sockets: [&Socket; 2], daemon: &Peer, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let count = |which: usize| shared.counts[which].fetch_add(1, Ordering::Relaxed);
    // Delayed datagrams: when each is sent on, in which direction, and its bytes.
    let mut late: VecDeque<(Instant, usize, Vec<u8>)> = VecDeque::new();
    let send = |to: usize, bytes: &[u8]| {
        let client = shared.client.lock().expect("no thread panics while it holds this lock").clone();
        match (to, client) {
            (1, _) => sockets[1].send(bytes, daemon),
            (_, Some(client)) => sockets[0].send(bytes, &client),
            _ => {}
        }
    };
    let mut buffer = vec![0; 1 << 16];
    while !shared.stop.load(Ordering::Relaxed) {
        let mut polled = sockets.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        let _ = poll(&mut polled, PollTimeout::from(2u8));
        let now = Instant::now();
        for (from, socket) in sockets.into_iter().enumerate() {
            while let Ok((length, source)) = socket.receive(&mut buffer) {
                let bytes = buffer[..length].to_vec();
                if from == 0 {
                    *shared.client.lock().expect("no thread panics while it holds this lock") = Some(source);
                }
                if random.f64() < 0.2 {
                    count(1);
                    continue;
                }
                if random.f64() < 0.1 {
                    count(2);
                    send(1 - from, &bytes);
                }
                if random.f64() < 0.25 {
                    count(3);
                    late.push_back((now + Duration::from_millis(random.u64(1..8)), 1 - from, bytes));
                } else {
                    count(0);
                    send(1 - from, &bytes);
                }
            }
        }
        late.retain(|(when, to, bytes)| {
            if *when <= now {
                send(*to, bytes);
            }
            *when > now
        });
    }
}
