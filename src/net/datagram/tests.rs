//! Errors of the kernel that no test can cause, injected in place of system calls (F8), and datagrams in flight.

use std::io::{self, IoSlice};
use std::net::UdpSocket;
use std::num::NonZeroU16;
use std::time::Duration;

use upcall_wire::address::{Address, Transport, UnixName};

use super::*;
use crate::net::binding::Binding;
use crate::net::sys;

fn socket() -> DatagramSocket {
    DatagramSocket::bind(&Address::parse_url("udp://127.0.0.1:0", None).unwrap(), Binding::default()).unwrap()
}

fn peers(count: usize) -> Vec<UdpSocket> {
    let peers: Vec<_> = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    peers.iter().for_each(|peer| peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap());
    peers
}

/// Sends a message of one byte, its number, to each of the peers.
fn send<'o>(socket: &DatagramSocket, buffer: &'o mut BatchBuffer, peers: &[UdpSocket]) -> &'o [SendOutcome] {
    const NUMBERS: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
    let mut batch = socket.batch(buffer);
    for (peer, number) in peers.iter().zip(&NUMBERS) {
        let to = Destination::Inet(peer.local_addr().unwrap());
        batch.push(to, None, [IoSlice::new(std::slice::from_ref(number))], None);
    }
    batch.send()
}

fn received(peer: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 65_536];
    let count = peer.recv(&mut buffer).unwrap();
    buffer[..count].to_vec()
}

fn silent(peer: &UdpSocket) -> bool {
    peer.set_nonblocking(true).unwrap();
    peer.recv(&mut [0; 9]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

const SENT: SendOutcome = SendOutcome { sent: 1, error: None };

const fn failed(error: SendError) -> SendOutcome {
    SendOutcome { sent: 0, error: Some(error) }
}

#[test]
fn f8_a_pending_error_of_the_socket_loses_no_message() {
    let (socket, peers, mut buffer) = (socket(), peers(3), BatchBuffer::new());
    for errno in [libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::EINTR, libc::EPROTO] {
        socket.fail_next(&[errno]);
        assert_eq!(send(&socket, &mut buffer, &peers), [SENT; 3]);
        for (number, peer) in peers.iter().enumerate() {
            assert_eq!(received(peer), [number as u8]);
        }
    }
}

#[test]
fn f9_dead_peers_cost_nothing_even_with_ip_recverr() {
    // An inherited socket may have it.
    let (socket, mut peers, mut buffer) = (socket(), peers(8), BatchBuffer::new());
    sys::set_option(&socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1).unwrap();
    let addresses: Vec<_> = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
    drop(peers.drain(2..5));
    for _ in 0..10 {
        let mut batch = socket.batch(&mut buffer);
        for address in &addresses {
            batch.push(Destination::Inet(*address), None, [IoSlice::new(b"x")], None);
        }
        assert_eq!(batch.send(), [SENT; 8]);
    }
    for peer in &peers {
        (0..10).for_each(|_| assert_eq!(received(peer), b"x"));
    }
}

#[test]
fn f9_an_unreachable_peer_is_skipped() {
    let (socket, peers, mut buffer) = (socket(), peers(3), BatchBuffer::new());
    for errno in [libc::EPERM, libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EINVAL, libc::EACCES, libc::EADDRNOTAVAIL] {
        socket.fail_next(&[errno, errno]);
        assert_eq!(send(&socket, &mut buffer, &peers), [failed(SendError::Unreachable(errno)), SENT, SENT]);
        assert_eq!(received(&peers[1]), [1]);
        assert_eq!(received(&peers[2]), [2]);
    }
    assert!(silent(&peers[0]));
}

#[test]
fn f8_a_too_large_message_is_skipped_and_a_full_socket_or_no_memory_ends_the_batch() {
    let (socket, peers, mut buffer) = (socket(), peers(3), BatchBuffer::new());
    socket.fail_next(&[libc::EMSGSIZE]);
    assert_eq!(send(&socket, &mut buffer, &peers), [failed(SendError::TooLarge), SENT, SENT]);
    for errno in [libc::ENOBUFS, libc::ENOMEM] {
        socket.fail_next(&[errno]);
        assert_eq!(send(&socket, &mut buffer, &peers), [failed(SendError::NoMemory); 3]);
    }
    socket.fail_next(&[libc::EAGAIN]);
    assert_eq!(send(&socket, &mut buffer, &peers), [failed(SendError::Full); 3]);
    assert!(silent(&peers[0]));
}

#[test]
fn f8_receiving_continues_after_every_error() {
    let (socket, mut inbox) = (socket(), Inbox::new(4, 10));
    let Address::Inet { port, .. } = *socket.address() else { panic!() };
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hi", ("127.0.0.1", port)).unwrap();
    socket.fail_next(&[libc::ECONNREFUSED, libc::ENOBUFS, libc::EBADF, libc::EAGAIN, libc::EINTR]);
    assert!(matches!(socket.receive(&mut inbox), Received::PeerError(_)));
    assert!(matches!(socket.receive(&mut inbox), Received::NoMemory));
    assert!(matches!(socket.receive(&mut inbox), Received::Broken(_)));
    assert!(matches!(socket.receive(&mut inbox), Received::Drained));
    assert!(matches!(socket.receive(&mut inbox), Received::Datagrams(1)));
    assert_eq!(inbox.iter().next().unwrap().bytes, b"hi");
}

#[test]
fn a_refused_run_is_sent_one_by_one_in_its_place() {
    let mut buffer = BatchBuffer::new();
    for (errno, offloads) in
        [(libc::EINVAL, true), (libc::EMSGSIZE, true), (libc::EIO, false), (libc::EOPNOTSUPP, false)]
    {
        let (socket, peers) = (socket(), peers(2));
        socket.fail_next(&[errno]);
        let mut batch = socket.batch(&mut buffer);
        let [first, second] = [0, 1].map(|peer: usize| Destination::Inet(peers[peer].local_addr().unwrap()));
        batch.push(first, None, [IoSlice::new(b"aab"), IoSlice::new(b"bccd")], NonZeroU16::new(2));
        batch.push(second, None, [IoSlice::new(b"x")], None);
        let outcomes = batch.send();
        assert_eq!(outcomes, [SendOutcome { sent: 4, error: None }, SENT]);
        assert_eq!([(); 4].map(|()| received(&peers[0])), [&b"aa"[..], b"bb", b"cc", b"d"]);
        assert_eq!(received(&peers[1]), b"x");
        assert_eq!(socket.offloads(), offloads);
        // With or without offloading, the next run arrives.
        let mut batch = socket.batch(&mut buffer);
        batch.push(first, None, [IoSlice::new(b"eeff")], NonZeroU16::new(2));
        assert_eq!(batch.send(), [SendOutcome { sent: 2, error: None }]);
        assert_eq!([(); 2].map(|()| received(&peers[0])), [b"ee", b"ff"]);
    }
}

#[test]
fn a_failing_unix_peer_is_skipped_with_its_later_messages() {
    let (ours, _) = unix("passed-over-ours");
    let (_a, a_peer) = unix("passed-over-a");
    let (b, b_peer) = unix("passed-over-b");
    for (errno, error) in [
        (libc::EAGAIN, SendError::Full),
        (libc::ECONNREFUSED, SendError::Gone),
        (libc::EPERM, SendError::Unreachable(libc::EPERM)),
    ] {
        let mut buffer = BatchBuffer::new();
        ours.fail_next(&[errno]);
        let mut batch = ours.batch(&mut buffer);
        for (peer, bytes) in [(&a_peer, b"1"), (&a_peer, b"2"), (&b_peer, b"3"), (&a_peer, b"4")] {
            batch.push(Destination::Unix(peer), None, [IoSlice::new(bytes)], None);
        }
        assert_eq!(batch.send(), [failed(error), failed(error), SENT, SENT]);
    }
    let mut inbox = Inbox::new(8, 10);
    assert!(matches!(b.receive(&mut inbox), Received::Datagrams(3)));
}

/// A socket with an abstract name, and the peer that it is to other sockets.
fn unix(name: &str) -> (DatagramSocket, UnixPeer) {
    let name = UnixName::Abstract(format!("upcalld-test-{}-{name}", std::process::id()).into_bytes());
    let address = Address::Unix { transport: Transport::UnixDatagram, name: name.clone() };
    (DatagramSocket::bind(&address, Binding::default()).unwrap(), UnixPeer::verify(&name, 0).unwrap())
}

#[test]
fn a_run_that_finds_no_room_reports_how_many_datagrams_were_sent() {
    let (ours, _) = unix("run-ours");
    let (peer, name) = unix("run-peer");
    let (mut buffer, mut inbox) = (BatchBuffer::new(), Inbox::new(4096, 1));
    let bytes = vec![7; 4000];
    let mut batch = ours.batch(&mut buffer);
    batch.push(Destination::Unix(&name), None, [IoSlice::new(&bytes)], NonZeroU16::new(1));
    batch.push(Destination::Unix(&name), None, [IoSlice::new(b"8")], None);
    let outcomes = batch.send();
    assert_eq!(outcomes[0].error, Some(SendError::Full));
    assert!((1..4000).contains(&outcomes[0].sent));
    assert_eq!(outcomes[1], failed(SendError::Full), "it would overtake the rest of the run");
    let Received::Datagrams(count) = peer.receive(&mut inbox) else { panic!() };
    assert_eq!(count, outcomes[0].sent);
}

#[test]
fn a_run_over_a_peer_socket_reports_how_many_datagrams_were_sent() {
    let (peer, name) = unix("own-run-peer");
    let own = PeerSocket::connect(&name, 100).unwrap();
    let mut inbox = Inbox::new(4096, 4);
    assert_eq!(own.send_run(b"abcdefgh", 4), Ok(2));
    assert_eq!(own.send_run(b"one", 4), Ok(1));
    let bytes = vec![7; 4000];
    let count = own.send_run(&bytes, 1).unwrap();
    assert!((1..4000).contains(&count), "{count}");
    assert_eq!(own.send_run(&bytes, 1), Err(SendError::Full));
    assert!(matches!(peer.receive(&mut inbox), Received::Datagrams(all) if all == count + 3));
    let texts: Vec<Vec<u8>> = inbox.iter().take(4).map(|datagram| datagram.bytes.to_vec()).collect();
    assert_eq!(texts, [&b"abcd"[..], b"efgh", b"one", &[7]]);
    drop(peer);
    assert_eq!(own.send_run(b"abcdefgh", 4), Err(SendError::Gone));
}

#[test]
fn without_sock_diag_no_peer_is_limited() {
    let (ours, _) = unix("blind-ours");
    let (_theirs, peer) = unix("blind-peer");
    let (mut flow, mut in_flight) = (FlowControl::default(), InFlight::default());
    let grant = |flow: &mut FlowControl, in_flight: &mut InFlight| {
        flow.begin_round();
        let granted = flow.grant(&ours, &peer, in_flight, 1, 60 << 10)?;
        let mut buffer = BatchBuffer::new();
        let mut batch = ours.batch(&mut buffer);
        batch.push(Destination::Unix(&peer), None, [IoSlice::new(&[0; 60 << 10])], None);
        assert_eq!(batch.send(), [SENT]);
        flow.sent(in_flight, granted, 60 << 10);
        Ok(granted)
    };
    assert_eq!(grant(&mut flow, &mut in_flight), Ok(1));
    // First no memory, then no descriptors, then an answer.
    for errno in [libc::ENOBUFS, libc::EMFILE, libc::EINTR, 0] {
        ours.fail_next(&[errno]);
        assert_eq!(grant(&mut flow, &mut in_flight), Err(Stalled::Unread));
        assert!(flow.take_error().is_none());
    }
    let mut flow = FlowControl::default();
    in_flight = InFlight::default();
    for errno in [libc::EAFNOSUPPORT, 0, 0, 0] {
        ours.fail_next(&[errno]);
        assert_eq!(grant(&mut flow, &mut in_flight), Ok(1));
        assert_eq!(flow.take_error().and_then(|error| error.raw_os_error()), (errno != 0).then_some(errno));
    }
}
