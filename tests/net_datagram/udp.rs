//! UDP over loopback.

use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU16;

use upcall_wire::address::Address;
use upcalld::net::binding::Binding;
use upcalld::net::datagram::{
    BatchBuffer, DatagramSocket, Destination, Inbox, Received, SendError, SendOutcome, Sender,
};

use super::{DEADLINE, SENT, receive, send};

const DUAL: Binding = Binding { dual_stack: true, mode: 0, group: None };

/// Binds; `None` where the machine has no IPv6.
fn bind(url: &str, binding: Binding) -> Option<(DatagramSocket, u16)> {
    match super::bind(url, binding) {
        Err(error) if url.contains('[') => {
            // eprintln! would be captured by the test runner, and .ci/run counts these lines.
            let _ = writeln!(io::stderr(), "SKIPPED datagrams over IPv6: {error}");
            None
        }
        result => {
            let socket = result.unwrap();
            let Address::Inet { port, .. } = *socket.address() else { panic!() };
            assert_ne!(port, 0);
            Some((socket, port))
        }
    }
}

/// A client that accepts datagrams from `server` only.
fn client(server: SocketAddr) -> UdpSocket {
    let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let client = UdpSocket::bind(any).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.connect(server).unwrap();
    client
}

fn receive_from(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let count = client.recv(&mut buffer).unwrap();
    buffer.truncate(count);
    buffer
}

#[test]
fn requests_and_answers_of_any_size_over_both_families() {
    let large = vec![b'x'; 65_000];
    for (url, ip, binding) in [
        ("udp://127.0.0.1:0", "127.0.0.1", Binding::default()),
        ("udp://0.0.0.0:0", "127.0.0.1", Binding::default()),
        // Without a source address, the answer would be sent from another address, and the client would not accept it.
        ("udp://0.0.0.0:0", "127.0.0.2", Binding::default()),
        ("udp://[::1]:0", "::1", Binding::default()),
        ("udp://[::]:0", "::1", Binding::default()),
        ("udp://[::]:0", "::1", DUAL),
        ("udp://[::]:0", "127.0.0.1", DUAL),
        ("udp://[::]:0", "127.0.0.2", DUAL),
    ] {
        let Some((socket, port)) = bind(url, binding) else { continue };
        let client = client(SocketAddr::new(ip.parse().unwrap(), port));
        for bytes in [&b"hello\n"[..], b"", &large] {
            client.send(bytes).unwrap();
            let (request, truncated, from) = receive(&socket, &mut Inbox::new(4, 65_535), 1).pop().unwrap();
            assert!(request == bytes && !truncated, "{url} {ip}");
            let Sender::Inet { peer, local } = from else { panic!("{from:?}") };
            assert_eq!(peer, client.local_addr().unwrap(), "{url} {ip}");
            let wildcard = url.contains("0.0.0.0") || url.contains("[::]");
            assert_eq!(local.map(|local| local.ip), wildcard.then(|| ip.parse().unwrap()), "{url} {ip}");
            assert!(local.is_none_or(|local| local.interface != 0));
            let mut buffer = BatchBuffer::new();
            let mut batch = socket.batch(&mut buffer);
            let (first, second) = bytes.split_at(bytes.len() / 2);
            batch.push(Destination::Inet(peer), local, [IoSlice::new(first), IoSlice::new(second)], None);
            assert_eq!(batch.send(), [SENT], "{url} {ip}");
            assert!(receive_from(&client) == bytes, "{url} {ip}");
        }
    }
}

#[test]
fn a_port_is_not_shared() {
    let (first, port) = bind("udp://127.0.0.1:0", Binding::default()).unwrap();
    let second = super::bind(&format!("udp://127.0.0.1:{port}"), Binding::default());
    assert_eq!(second.unwrap_err().kind(), ErrorKind::AddrInUse);
    drop(first);
    super::bind(&format!("udp://127.0.0.1:{port}"), Binding::default()).unwrap();
}

#[test]
fn without_dual_stack_an_ipv6_socket_does_not_use_ipv4() {
    let Some((socket, port)) = bind("udp://[::]:0", Binding::default()) else { return };
    let _ipv4 = UdpSocket::bind(("127.0.0.1", port));
    let outcome = send(&socket, Destination::Inet(([127, 0, 0, 1], port).into()), b"x");
    assert!(matches!(outcome.error, Some(SendError::Unreachable(_))), "{outcome:?}");
}

#[test]
fn b6_a_byte_more_than_allowed_is_detected() {
    let (socket, port) = bind("udp://127.0.0.1:0", Binding::default()).unwrap();
    let client = client(([127, 0, 0, 1], port).into());
    for size in [9, 10, 11, 12, 1000, 0] {
        client.send(&vec![b'x'; size]).unwrap();
    }
    let came = receive(&socket, &mut Inbox::new(64, 10), 6);
    let sizes: Vec<_> = came.iter().map(|(bytes, truncated, _)| (bytes.len(), *truncated)).collect();
    assert_eq!(sizes, [(9, false), (10, false), (10, true), (10, true), (10, true), (0, false)]);
}

#[test]
fn more_datagrams_than_an_inbox_holds_are_received_in_turns() {
    let (socket, port) = bind("udp://127.0.0.1:0", Binding::default()).unwrap();
    let client = client(([127, 0, 0, 1], port).into());
    for number in 0..10u8 {
        client.send(&[number]).unwrap();
    }
    let mut inbox = Inbox::new(4, 10);
    let came = receive(&socket, &mut inbox, 10);
    assert_eq!(came.iter().map(|(bytes, ..)| bytes[0]).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert!(matches!(socket.receive(&mut inbox), Received::Drained));
    assert_eq!(inbox.iter().count(), 0, "nothing is left of the call before");
}

#[test]
fn f9_one_dead_peer_among_100_costs_the_others_nothing() {
    let (socket, _) = bind("udp://127.0.0.1:0", Binding::default()).unwrap();
    let mut clients: Vec<_> = (0..100).map(|_| Some(UdpSocket::bind("127.0.0.1:0").unwrap())).collect();
    let addresses: Vec<_> = clients.iter().map(|client| client.as_ref().unwrap().local_addr().unwrap()).collect();
    clients[37] = None;
    let mut buffer = BatchBuffer::new();
    // Several rounds: an error that one causes (ICMP) would be reported in the next.
    for round in 0..20u8 {
        let bytes = [round];
        let mut batch = socket.batch(&mut buffer);
        for address in &addresses {
            batch.push(Destination::Inet(*address), None, [IoSlice::new(&bytes)], None);
        }
        assert_eq!(batch.send(), [SENT; 100]);
        assert!(matches!(socket.receive(&mut Inbox::new(4, 10)), Received::Drained));
    }
    for client in clients.iter().flatten() {
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        (0..20).for_each(|round| assert_eq!(receive_from(client), [round]));
    }
}

#[test]
fn f9_unreachable_addresses_cost_the_others_nothing() {
    let (socket, port) = bind("udp://127.0.0.1:0", Binding::default()).unwrap();
    let client = client(([127, 0, 0, 1], port).into());
    let mut buffer = BatchBuffer::new();
    let mut batch = socket.batch(&mut buffer);
    // Port 0, a broadcast address, another family, a network that a socket bound to loopback cannot reach.
    let odd = ["127.0.0.1:0", "255.255.255.255:9", "[::1]:9", "192.0.2.1:9"];
    for address in odd {
        batch.push(Destination::Inet(address.parse().unwrap()), None, [IoSlice::new(b"no")], None);
        batch.push(Destination::Inet(client.local_addr().unwrap()), None, [IoSlice::new(b"yes")], None);
    }
    for pair in batch.send().chunks(2) {
        assert!(matches!(pair[0].error, Some(SendError::Unreachable(_))), "{pair:?}");
        assert_eq!(pair[1], SENT);
    }
    odd.iter().for_each(|_| assert_eq!(receive_from(&client), b"yes"));
}

#[test]
fn f8_a_too_large_message_is_reported_and_the_next_is_sent() {
    let (socket, port) = bind("udp://127.0.0.1:0", Binding::default()).unwrap();
    let client = client(([127, 0, 0, 1], port).into());
    let to = Destination::Inet(client.local_addr().unwrap());
    let large = vec![b'x'; 70_000];
    let mut buffer = BatchBuffer::new();
    let mut batch = socket.batch(&mut buffer);
    assert!(batch.is_empty());
    batch.push(to, None, [IoSlice::new(&large)], None);
    batch.push(to, None, [IoSlice::new(b"next")], None);
    assert_eq!(batch.len(), 2);
    assert_eq!(batch.send(), [SendOutcome { sent: 0, error: Some(SendError::TooLarge) }, SENT]);
    assert_eq!(receive_from(&client), b"next");
}

#[test]
fn a_run_arrives_as_datagrams_in_order() {
    for (url, ip) in [("udp://0.0.0.0:0", "127.0.0.2"), ("udp://[::]:0", "::1"), ("udp://[::]:0", "127.0.0.2")] {
        let Some((socket, port)) = bind(url, DUAL) else { continue };
        let client = client(SocketAddr::new(ip.parse().unwrap(), port));
        client.send(b"hello").unwrap();
        let (_, _, from) = receive(&socket, &mut Inbox::new(4, 10), 1).pop().unwrap();
        let Sender::Inet { peer, local } = from else { panic!() };
        // More segments, and more bytes, than one run may have; a shorter last segment; segments across slices. All of it
        // has to fit the client's receive buffer.
        for (size, total) in [(10, 1000), (1000, 64_000), (1200, 70_111), (40_000, 100_000), (7, 7), (7, 6), (7, 0)] {
            let bytes: Vec<u8> = (0..total).map(|index: usize| (index % 251) as u8).collect();
            let mut buffer = BatchBuffer::new();
            let mut batch = socket.batch(&mut buffer);
            let slices = bytes.chunks(total / 3 + 1).map(IoSlice::new);
            batch.push(Destination::Inet(peer), local, slices, NonZeroU16::new(size));
            batch.push(Destination::Inet(peer), local, [IoSlice::new(b"end")], None);
            let size = usize::from(size);
            let run = SendOutcome { sent: total.div_ceil(size).max(1), error: None };
            assert_eq!(batch.send(), [run, SENT]);
            for segment in bytes.chunks(size) {
                assert!(receive_from(&client) == segment, "{url} {ip} {size} {total}");
            }
            if total == 0 {
                assert_eq!(receive_from(&client), b"");
            }
            assert_eq!(receive_from(&client), b"end");
        }
    }
}

#[test]
fn datagrams_that_the_kernel_drops_are_counted() {
    let (socket, port) = bind("udp://127.0.0.1:0", Binding::default()).unwrap();
    let client = client(([127, 0, 0, 1], port).into());
    let sent: u32 = 20_000;
    for _ in 0..sent {
        client.send(&[b'x'; 1000]).unwrap();
    }
    let dropped = socket.buffer_usage().unwrap().dropped;
    assert!(dropped > 0 && dropped < sent);
    receive(&socket, &mut Inbox::new(64, 1000), (sent - dropped) as usize);
}
