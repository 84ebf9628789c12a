//! Trusted datagram endpoints: how they register, what they receive, how they leave.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{DEADLINE, Daemon, Datagram, Event, Place, over};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";

over!(datagrams:
    the_first_datagram_registers_and_is_delivered,
    b7_every_byte_value,
    join_registers_and_bye_leaves,
    any_datagram_renews,
    b5_empty,
    b6_too_large,
    bridged_in_one_order,
    reload_and_shutdown_are_announced,
);

fn start(place: Place, rest: &str) -> Daemon {
    Daemon::start(&(place.listener("lab", "") + DATA + rest))
}

fn the_first_datagram_registers_and_is_delivered(place: Place) {
    let daemon = start(place, "");
    let (first, second) = (daemon.datagram("lab"), daemon.datagram("lab"));
    first.send("haii");
    first.expect("haii");
    second.send("hello\nthere\n");
    // One datagram is one message, whatever it holds.
    first.expect("hello\nthere\n");
    second.expect("hello\nthere\n");
    assert_eq!(daemon.count_now(Event::Joined), 2);
}

fn b7_every_byte_value(place: Place) {
    let daemon = start(place, "");
    let (sender, receiver) = (daemon.join_datagram("lab"), daemon.join_datagram("lab"));
    let all: Vec<u8> = (0..=255).collect();
    sender.send(&all);
    sender.expect(&all);
    receiver.expect(&all);
    for byte in 0..=255u8 {
        sender.send([byte]);
        sender.expect([byte]);
        receiver.expect([byte]);
    }
}

fn join_registers_and_bye_leaves(place: Place) {
    let daemon = start(place, "");
    let witness = daemon.join_datagram("lab");
    for (round, (join, bye)) in [("join", "bye"), ("join\n", "bye\n"), ("join\r\n", "BYE\r\n")].into_iter().enumerate()
    {
        let peer = daemon.datagram("lab");
        peer.send(join);
        daemon.wait_count(Event::Joined, round + 2);
        witness.send("hello");
        peer.expect("hello");
        peer.send(bye);
        daemon.wait_count(Event::Left.reason("closed"), round + 1);
        witness.send("alone");
        for text in ["hello", "alone"] {
            witness.expect(text);
        }
        // Neither word was an input, or was answered; and a peer that has left gets nothing.
        peer.expect_nothing();
        // Its bye, once more: it is not registered.
        peer.send(bye);
    }
    assert_eq!(daemon.count_now(Event::Left), 3);
    assert_eq!(daemon.counted("not_registered"), 3);
}

fn any_datagram_renews(place: Place) {
    let daemon = start(place, "[registry]\nlease = \"1s\"\n");
    let (silent, speaker) = (daemon.join_datagram("lab"), daemon.join_datagram("lab"));
    let (start, mut sent, mut second) = (Instant::now(), 0, None);
    // The speaker stays registered because it sends, while the leases of two others end. The second one joins when the
    // first one has left.
    while daemon.count(Event::Left.reason("lease_expired")) < 2 {
        assert!(start.elapsed() < DEADLINE, "no lease ends");
        if second.is_none() && daemon.count(Event::Left.reason("lease_expired")) == 1 {
            second = Some(daemon.join_datagram("lab"));
        }
        speaker.send(if sent % 2 == 0 { "x" } else { "join" });
        if sent % 2 == 0 {
            speaker.expect("x");
        } else {
            // It is not answered.
            speaker.expect_nothing_for(Duration::from_millis(50));
        }
        sent += 1;
    }
    let line = &daemon.log().entries(Event::Left.reason("lease_expired"))[0].message;
    assert!(line.contains(", 1 s; 1 registered"), "after one second: {line}");
    assert_eq!(daemon.count_now(Event::Joined), 3, "the speaker has never left");
    // Its lease has ended, so it joins again.
    silent.send("join");
    daemon.wait_count(Event::Joined, 4);
    // No peer sends anything any more: both leases end.
    daemon.wait_count(Event::Left.reason("lease_expired"), 4);
}

fn b5_empty(place: Place) {
    let daemon = start(place, "");
    let (peer, witness) = (daemon.datagram("lab"), daemon.join_datagram("lab"));
    peer.send("");
    witness.send("");
    witness.send("x");
    witness.expect("x");
    peer.expect_nothing();
    assert_eq!(daemon.counted("empty"), 2);
    assert_eq!(daemon.count_now(Event::Joined), 1);
    daemon.summary("1 input, 1 upcall;");
}

fn b6_too_large(place: Place) {
    let daemon = start(place, "max_message = \"1KiB\"\n");
    let (sender, witness) = (daemon.datagram("lab"), daemon.join_datagram("lab"));
    sender.send([b'x'; 1025]);
    sender.send([b'x'; 30_000]);
    witness.send([b'y'; 1024]);
    // The first upcall is the message that is allowed.
    witness.expect([b'y'; 1024]);
    sender.expect_nothing();
    assert_eq!(daemon.counted("too_large"), 2);
    assert_eq!(daemon.count_now(Event::Joined), 1, "and no sender was registered");
    sender.send([b'z'; 1024]);
    sender.expect([b'z'; 1024]);
    witness.expect([b'z'; 1024]);
}

/// Datagram endpoints and streams of both kinds, which all send: one order for all.
fn bridged_in_one_order(place: Place) {
    let config = place.listener("lab", "")
        + &Place::Tcp.listener("tcp", "")
        + &Place::UnixPath.listener("unix", "")
        + "[upcall]\nformat = \"{seq} {data}\\n\"\n";
    let daemon = Daemon::start(&config);
    let streams = [daemon.join("tcp"), daemon.join("unix")];
    let datagrams: Vec<Datagram> = (0..3).map(|_| daemon.join_datagram("lab")).collect();
    // Few enough for the queues of both sides (net.unix.max_dgram_qlen is 10).
    for round in 0..50 {
        for (index, datagram) in datagrams.iter().enumerate() {
            datagram.send(format!("d{round}.{index}"));
        }
        for (index, stream) in streams.iter().enumerate() {
            stream.send(format!("s{round}.{index}"));
        }
        let mut received = String::new();
        for _ in 0..datagrams.len() + streams.len() {
            received += std::str::from_utf8(&datagrams[0].receive()).expect("text");
        }
        let words: Vec<&str> = received.lines().collect();
        assert_eq!(words.len(), 5, "{received}");
        for (index, line) in words.iter().enumerate() {
            assert!(line.starts_with(&format!("{} ", round * 5 + index + 1)), "sequences rise by one: {received}");
        }
        for stream in &streams {
            stream.expect(&received);
        }
        for datagram in &datagrams[1..] {
            for line in &words {
                datagram.expect(format!("{line}\n"));
            }
        }
    }
}

fn reload_and_shutdown_are_announced(place: Place) {
    let (kept, removed) = (place.listener("kept", ""), place.listener("removed", ""));
    let mut daemon = Daemon::start(&(kept.clone() + &removed + DATA));
    let (stays, goes) = (daemon.join_datagram("kept"), daemon.join_datagram("removed"));
    let url = daemon.url("kept");
    // One of another kind: at the same address it would be the removed one under another name.
    let added = match place {
        Place::DatagramAbstract => Place::Udp,
        Place::Udp => Place::DatagramPath,
        _ => Place::DatagramAbstract,
    };
    let added = added.listener("added", "");
    daemon.reload(&(kept + &added + DATA));
    goes.expect("upcalld: listener_removed\n");
    goes.expect_nothing();
    daemon.wait(Event::Left.reason("listener_removed"));
    assert_eq!(daemon.url("kept"), url);
    let new = daemon.join_datagram("added");
    new.send("new");
    for peer in [&stays, &new] {
        // Still registered, although it has sent nothing.
        peer.expect("new");
    }
    assert_eq!(daemon.count_now(Event::Joined), 3);
    daemon.signal(Signal::SIGTERM);
    for peer in [&stays, &new] {
        peer.expect("upcalld: shutdown\n");
        peer.expect_nothing();
    }
    assert_eq!(daemon.wait_exit().code(), Some(0));
}
