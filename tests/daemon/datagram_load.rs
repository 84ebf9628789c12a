//! Many datagram endpoints, some of which are dead or do not read: the others miss nothing.

use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use nix::sys::socket::sockopt::{SndBuf, SndBufForce};
use nix::sys::socket::{getsockopt, setsockopt};

use crate::support::swarm::allow_files;
use crate::support::{Daemon, Datagram, Event, Place, Stream, Swarm, figure, over, percentile, skip};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";

over!(datagrams: f9_one_dead_peer_among_a_hundred);

/// Over Unix sockets the daemon notices a dead peer. Over UDP it does not, and the endpoint stays until its lease ends.
fn f9_one_dead_peer_among_a_hundred(place: Place) {
    const MESSAGES: usize = 1_000;
    let daemon = Daemon::start(&(place.listener("lab", "") + DATA));
    let peers: Vec<Datagram> = (0..99).map(|_| daemon.join_datagram("lab")).collect();
    drop(daemon.join_datagram("lab"));
    for message in 0..MESSAGES {
        // From each in turn: the error that the dead peer causes comes to the socket that all use.
        let text = format!("message {message}\n");
        peers[message % peers.len()].send(&text);
        for peer in &peers {
            peer.expect(&text);
        }
    }
    for peer in &peers {
        peer.expect_nothing();
    }
    let inet = matches!(place, Place::Udp | Place::Udp6);
    assert_eq!(daemon.count_now(Event::Left.reason("reset")), usize::from(!inet));
    assert_eq!(daemon.count_now(Event::Left), usize::from(!inet), "and no other has left");
}

/// Messages of one size, numbered.
fn message(number: usize, size: usize) -> Vec<u8> {
    let mut message = format!("{number:09}").into_bytes();
    message.resize(size, b'.');
    message
}

/// What kind of socket the clients have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bound,
    /// Connected, as `nc -uU` does: one socket of the daemon serves all of them.
    Connected,
}

fn stalled_among_readers(place: Place, kind: Kind, size: usize, messages: usize) {
    const EACH: usize = 100;
    let test = format!("l8 {place:?} {kind:?} {size} B");
    if !allow_files(1_000) {
        return skip("l8", "it needs 1,000 open files");
    }
    let daemon =
        Daemon::start(&(place.listener("lab", "") + &Place::UnixPath.listener("in", "role = \"input\"\n") + DATA));
    // In turn, so that those that do not read are between the others.
    let (mut stalled, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..EACH {
        stalled.push(daemon.join_datagram("lab"));
        readers.push(daemon.join_datagram("lab"));
    }
    if kind == Kind::Connected {
        stalled.iter().chain(&readers).for_each(Datagram::connect);
    }
    let sender = daemon.connect("in");
    let mut delays = Vec::with_capacity(messages * EACH);
    for number in 0..messages {
        let mut text = message(number, size - 1);
        text.push(b'\n');
        let sent = Instant::now();
        sender.send(&text);
        for (index, reader) in readers.iter().enumerate() {
            let came = reader.receive();
            assert!(came == text, "reader {index} got {} bytes instead of message {number}", came.len());
            delays.push(sent.elapsed());
        }
    }
    let (p50, p99) = (percentile(&mut delays, 0.5), percentile(&mut delays, 0.99));
    figure(&test, &format!("{} deliveries beside {EACH} stalled peers: p50 {p50:.2?}, p99 {p99:.2?}", delays.len()));
    assert_eq!(daemon.count_now(Event::Left), 0, "best effort causes no disconnect");

    // They read again: in order, without duplicates, and everything from then on.
    sender.send([message(messages, size - 1), b"\n".to_vec()].concat());
    for reader in &readers {
        reader.receive();
    }
    let (mut got, mut holes) = (0, 0);
    let mut reading: Vec<(&Datagram, usize)> = stalled.iter().map(|peer| (peer, 0)).collect();
    while !reading.is_empty() {
        // One datagram from each in turn: the daemon retries them all at the same time.
        reading.retain_mut(|(peer, next)| {
            let came = peer.receive();
            assert_eq!(came.len(), size, "whole messages only");
            let number: usize = std::str::from_utf8(&came[..9]).expect("digits").parse().expect("a number");
            assert!(number >= *next, "{number} came after {next}");
            (holes, got) = (holes + number - *next, got + 1);
            *next = number + 1;
            *next <= messages
        });
    }
    for peer in &stalled {
        peer.expect_nothing();
    }
    let skipped = daemon.counted("skipped:");
    figure(&test, &format!("the stalled ones got {got} later, and missed {holes}"));
    assert_eq!(skipped, holes, "every missed upcall was counted");
    sender.send([message(messages + 1, size - 1), b"\n".to_vec()].concat());
    for peer in stalled.iter().chain(&readers) {
        assert!(peer.receive().starts_with(format!("{:09}", messages + 1).as_bytes()));
    }
}

#[test]
fn l8_stalled_peers_and_small_messages() {
    for place in [Place::DatagramPath, Place::DatagramAbstract] {
        stalled_among_readers(place, Kind::Bound, 64, 300);
    }
}

#[test]
fn l8_stalled_peers_and_large_messages() {
    for place in [Place::DatagramPath, Place::DatagramAbstract] {
        stalled_among_readers(place, Kind::Bound, 60 << 10, 150);
    }
}

#[test]
fn l8_stalled_connected_peers_and_small_messages() {
    for place in [Place::DatagramPath, Place::DatagramAbstract] {
        // More than the largest buffer would hold if the daemon did not make the stalled ones leave room.
        stalled_among_readers(place, Kind::Connected, 64, 1_000);
    }
}

#[test]
fn l8_stalled_connected_peers_and_large_messages() {
    // The daemon cannot take back what they hold, 64.25 KiB each, and there must be room for one more.
    if send_buffer() < 101 * 65_792 {
        return skip("l8_stalled_connected_peers_and_large_messages", "it needs CAP_NET_ADMIN or a larger wmem_max");
    }
    for place in [Place::DatagramPath, Place::DatagramAbstract] {
        stalled_among_readers(place, Kind::Connected, 60 << 10, 150);
    }
}

/// The largest send buffer that this process, and so the daemon, may have.
fn send_buffer() -> usize {
    let socket = UnixDatagram::unbound().expect("a socket");
    let wanted = 32 << 20;
    if setsockopt(&socket, SndBufForce, &wanted).is_err() {
        setsockopt(&socket, SndBuf, &wanted).expect("the kernel makes it what it allows");
    }
    getsockopt(&socket, SndBuf).expect("the option exists")
}

/// Every endpoint receives the same, in the same order; datagrams are not lost either, because their receivers read.
#[test]
fn l9_all_transports_in_one_order() {
    const EACH: usize = 250;
    const MESSAGES: usize = 200;
    let places = [Place::Tcp, Place::UnixPath, Place::Udp, Place::DatagramAbstract];
    if !allow_files(8 * EACH as u64) {
        return skip("l9", "it needs 2,000 open files");
    }
    let tables: String = places.iter().map(|place| place.listener(&format!("{place:?}"), "")).collect();
    let daemon = Daemon::start(&(tables + "[upcall]\nformat = \"{seq} {data}\"\n"));
    let [tcp, unix, udp, dgram] = places.map(|place| format!("{place:?}"));
    let mut swarm = Swarm::join(&daemon, &[&tcp, &unix], 2 * EACH);
    let mut datagrams: Vec<Datagram> = Vec::new();
    for name in [&udp, &dgram] {
        datagrams.extend((0..EACH).map(|_| daemon.join_datagram(name)));
    }
    let streams: Vec<Stream> = swarm.streams().iter().map(Stream::again).collect();
    let (mut expected, start) = (Vec::new(), Instant::now());
    for number in 0..MESSAGES {
        // Senders of each transport in turn. All read each upcall before the next one, so that UDP has no reason to
        // lose any.
        let text = format!("message {number}\n");
        match number % 4 {
            0 | 1 => streams[(number * 7) % streams.len() / 2 * 2 + number % 2].send(&text),
            2 => datagrams[(number * 7) % EACH].send(&text),
            _ => datagrams[EACH + (number * 7) % EACH].send(&text),
        }
        let upcall = format!("{} {text}", number + 1);
        for (index, datagram) in datagrams.iter().enumerate() {
            let came = datagram.receive();
            assert!(came == upcall.as_bytes(), "datagram endpoint {index}, not {upcall}: {}", came.escape_ascii());
        }
        expected.extend(upcall.into_bytes());
    }
    swarm.expect_each(&expected, |_, _| {});
    figure("l9", &format!("{} deliveries to {} endpoints in {:.2?}", 4 * EACH * MESSAGES, 4 * EACH, start.elapsed()));
    for datagram in &datagrams {
        datagram.expect_nothing();
    }
    assert_eq!(daemon.count_now(Event::Left), 0);
    assert_eq!(daemon.count_now(Event::Joined), 2 * EACH);
}
