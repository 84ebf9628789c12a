//! Many native endpoints at once.

use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use upcall_wire::frame::{Frame, Hello, Role};

use super::{NAMES, auto, everywhere, lab};
use crate::support::swarm::allow_files;
use crate::support::{DEADLINE, Daemon, Link, Native, Place, Received, Stream, figure, skip};

/// Clients that are read by one thread.
struct Crowd {
    natives: Vec<Native>,
    epoll: Epoll,
    /// The number of upcalls of each so far.
    got: Vec<u64>,
}

impl Crowd {
    fn join(daemon: &Daemon, listeners: &[&str], count: usize) -> Crowd {
        let natives: Vec<Native> =
            (0..count).map(|index| Native::join(daemon, listeners[index % listeners.len()])).collect();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("a descriptor");
        for (index, native) in natives.iter().enumerate() {
            epoll.add(native, EpollEvent::new(EpollFlags::EPOLLIN, index as u64)).expect("room in the epoll set");
        }
        Crowd { got: vec![0; natives.len()], natives, epoll }
    }

    /// Reads what there is, and waits at most this long for it. The upcalls have to be in the order of `sequence`.
    fn pump(&mut self, wait: u8) -> bool {
        let mut events = [EpollEvent::empty(); 256];
        let count = self.epoll.wait(&mut events, EpollTimeout::from(wait)).unwrap_or(0);
        for event in &events[..count] {
            let index = event.data() as usize;
            let native = &mut self.natives[index];
            native.pump(Duration::ZERO);
            for item in native.inbox.received.drain(..) {
                match item {
                    Received::Upcall(upcall) => {
                        self.got[index] += 1;
                        assert_eq!(upcall.sequence, self.got[index], "endpoint {index}");
                        assert_eq!(upcall.payload, upcall.sequence.to_string().into_bytes());
                    }
                    Received::Pong(_) => {}
                    other => panic!("endpoint {index}: {other:?}"),
                }
            }
        }
        count > 0
    }

    /// Reads until every endpoint has got `count` upcalls.
    fn finish(&mut self, count: u64) {
        let mut last = Instant::now();
        while self.got.iter().any(|got| *got < count) {
            if self.pump(100) {
                last = Instant::now();
            }
            let least = self.got.iter().min();
            assert!(last.elapsed() < DEADLINE, "an endpoint has only {least:?} of {count}");
        }
    }
}

/// `rate` inputs a second for `seconds`, each to every endpoint; none is lost.
fn load(test: &str, daemon: &Daemon, listeners: &[&str], endpoints: usize, rate: u64, seconds: u64) {
    if !allow_files(endpoints as u64 + 200) {
        return skip(test, "too few files may be open");
    }
    let mut crowd = Crowd::join(daemon, listeners, endpoints);
    let mut sender = Native::join_as(daemon, listeners[0], &Hello { role: Role::SendOnly, ..Hello::new(0) });
    let (begin, count) = (Instant::now(), rate * seconds);
    for number in 1..=count {
        let due = begin + Duration::from_secs_f64(number as f64 / rate as f64);
        while Instant::now() < due {
            crowd.pump(1);
        }
        assert_eq!(sender.send_confirmed("", number.to_string()).1, endpoints as u32);
    }
    crowd.finish(count);
    let again: u64 = crowd.natives.iter().map(|native| native.inbox.duplicates).sum();
    let numbered: u64 = crowd.natives.iter().map(|native| native.inbox.numbered).sum();
    let took = begin.elapsed();
    let total = count * endpoints as u64;
    figure(test, &format!("{total} upcalls in {took:?}, 0 lost, {again} came again, in {numbered} datagrams"));
}

#[test]
fn l6_native_udp() {
    load("l6", &lab(Place::Udp, "", ""), &["lab"], 500, 20, 2);
}

#[test]
#[ignore = "slow: a minute of load"]
fn l6_native_udp_at_length() {
    load("l6", &lab(Place::Udp, "", ""), &["lab"], 500, 20, 60);
}

#[test]
fn l7_native_unix_streams() {
    load("l7", &lab(Place::UnixPath, "", ""), &["lab"], 500, 50, 2);
}

#[test]
#[ignore = "slow: a minute of load"]
fn l7_native_unix_streams_at_length() {
    load("l7", &lab(Place::UnixPath, "", ""), &["lab"], 500, 50, 60);
}

/// L9: 250 of each transport, one order for all, nothing lost.
#[test]
fn l9_native_on_every_transport() {
    load("l9", &everywhere(""), &NAMES, 1000, 20, 2);
}

#[test]
#[ignore = "slow: a minute of load"]
fn l9_native_on_every_transport_at_length() {
    load("l9", &everywhere(""), &NAMES, 1000, 20, 60);
}

/// Clients that are killed and come back again and again miss nothing, and get nothing twice.
fn killed_and_back(place: Place, count: u64) {
    let daemon = Daemon::start(&(auto(place, "lab", "") + &auto(Place::UnixPath, "clean", "")));
    let mut random = fastrand::Rng::with_seed(18);
    let mut clients: Vec<Native> = (0..8).map(|_| Native::join(&daemon, "lab")).collect();
    let mut got = vec![0u64; clients.len()];
    let url = daemon.url("clean");
    let sender = std::thread::spawn(move || {
        let mut sender = Native::connect(&url);
        sender.register(&Hello { role: Role::SendOnly, ..Hello::new(0) });
        for number in 1..=count {
            sender.send_confirmed("", number.to_string());
        }
    });
    let (mut kills, mut last) = (0, Instant::now());
    while got.iter().any(|got| *got < count) {
        for (client, got) in clients.iter_mut().zip(&mut got) {
            client.pump(Duration::from_millis(1));
            while let Some(item) = client.inbox.received.pop_front() {
                let Received::Upcall(upcall) = item else { panic!("{item:?}") };
                assert_eq!((upcall.sequence, upcall.payload), (*got + 1, (*got + 1).to_string().into_bytes()));
                (*got, last) = (*got + 1, Instant::now());
            }
            if random.f64() < 0.05 {
                let session = client.session();
                let mut next = Native::connect(&daemon.url("lab"));
                // A reset, an orderly end, or none at all before the new one is there.
                let old = std::mem::replace(&mut client.link, Link::Stream(Stream::connect(&daemon.url("clean"))));
                let kept = match (old, random.u8(..3)) {
                    (Link::Stream(stream), 0) => {
                        stream.reset();
                        None
                    }
                    (old, 1) => Some(old),
                    _ => None,
                };
                let welcome = next.register(&Hello { resume: Some(session), ..Hello::new(0) });
                assert!(welcome.resumed && welcome.start == *got + 1);
                *client = next;
                drop(kept);
                kills += 1;
            }
        }
        assert!(last.elapsed() < DEADLINE, "{got:?} of {count}");
    }
    sender.join().expect("the sender has all its receipts");
    figure("killed", &format!("{place:?}: {count} upcalls to 8 clients, {kills} times killed"));
    assert!(kills > 0);
    for client in &mut clients {
        client.send_frame(&Frame::Ping { nonce: 9, cookie: None });
        assert_eq!(client.next(), Received::Pong(9), "and nothing more");
    }
}

#[test]
fn f18_tcp_clients_killed_at_random() {
    killed_and_back(Place::Tcp, 10_000);
}

#[test]
fn f18_unix_clients_killed_at_random() {
    killed_and_back(Place::UnixPath, 10_000);
}

#[test]
fn f18_udp_clients_killed_at_random() {
    killed_and_back(Place::Udp, 2_000);
}

#[test]
#[ignore = "slow: 100,000 upcalls"]
fn f18_tcp_clients_killed_at_random_at_length() {
    killed_and_back(Place::Tcp, 100_000);
}
