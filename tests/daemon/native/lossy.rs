//! Acknowledged delivery through a relay that loses, duplicates and reorders datagrams.

use std::time::{Duration, Instant};

use upcall_wire::frame::{Frame, Hello, Role};

use super::{auto, lab};
use crate::support::relay::Relay;
use crate::support::{DEADLINE, Daemon, Event, Native, Place, Received, figure};

/// F10: nothing lost, nothing twice, in order.
fn f10(place: Place, count: u64) {
    let daemon = Daemon::start(&(auto(place, "lab", "") + &auto(Place::UnixPath, "clean", "")));
    let relay = Relay::start(&daemon.url("lab"), 10);
    let mut native = Native::connect(relay.url());
    native.register(&Hello::new(0));
    let mut sender = Native::join_as(&daemon, "clean", &Hello { role: Role::SendOnly, ..Hello::new(0) });
    let begin = Instant::now();
    let (mut told, mut got, mut last) = (0, 0, Instant::now());
    while got < count {
        // As fast as it is taken: the daemon's window is what is tested, not its policy for the slow.
        while told < count && told < got + 2000 {
            sender.send_confirmed("", format!("{told}"));
            told += 1;
        }
        native.pump(Duration::from_millis(50));
        while let Some(item) = native.inbox.received.pop_front() {
            if let Received::Upcall(upcall) = item {
                assert_eq!((upcall.sequence, upcall.payload), (got + 1, format!("{got}").into_bytes()));
                (got, last) = (got + 1, Instant::now());
            }
        }
        assert!(last.elapsed() < DEADLINE, "nothing comes after {got} of {count}");
    }
    // And the other way: what it sends is appended once.
    for number in 0..20 {
        assert_eq!(native.send_confirmed("", format!("{number}")), (count + number + 1, 0));
    }
    let (passed, lost, doubled, late) = relay.counts();
    let inbox = &native.inbox;
    figure(
        "f10",
        &format!(
            "{place:?}: {count} upcalls in {:?}; of the datagrams, {passed} passed, {lost} lost, {doubled} doubled, \
             {late} late; {} came again",
            begin.elapsed(),
            inbox.duplicates
        ),
    );
    assert!(lost > 0 && doubled > 0 && late > 0);
}

#[test]
fn f10_udp() {
    f10(Place::Udp, 2_000);
}

#[test]
fn f10_unix_datagram() {
    f10(Place::DatagramAbstract, 2_000);
}

#[test]
#[ignore = "slow: 100,000 upcalls through a lossy relay"]
fn f10_udp_at_length() {
    f10(Place::Udp, 100_000);
}

#[test]
#[ignore = "slow: 100,000 upcalls through a lossy relay"]
fn f10_unix_datagram_at_length() {
    f10(Place::DatagramAbstract, 100_000);
}

/// F11: a silent peer is sent no more than the timing allows: at most ten datagrams at first, and then two at each
/// timeout, of 1 s and more and doubling, until its lease ends.
#[test]
fn f11_a_silent_peer() {
    for place in [Place::Udp, Place::DatagramAbstract] {
        let daemon = lab(place, "", "[registry]\nlease = \"5s\"\n");
        let mut silent = Native::join(&daemon, "lab");
        silent.acknowledges = false;
        let mut sender = Native::join_as(&daemon, "lab", &Hello { role: Role::SendOnly, ..Hello::new(0) });
        for _ in 0..200 {
            // One turn each, so that each could be a datagram.
            sender.send_confirmed("", "x");
        }
        let begin = Instant::now();
        while daemon.count(Event::Left.reason("lease_expired")) == 0 {
            silent.pump(Duration::from_millis(20));
            if !sender.pump(Duration::ZERO) {
                sender.send_frame(&Frame::Ping { nonce: 1, cookie: None });
            }
            assert!(begin.elapsed() < DEADLINE, "its lease does not end");
        }
        while silent.pump(Duration::ZERO) {}
        let numbered = silent.inbox.numbered;
        figure("f11", &format!("{place:?}: {numbered} datagrams in {:?}", begin.elapsed()));
        // Timeouts come after 1, 3 and 7 s at the earliest: two before the lease of 5 s ends, and one to spare.
        assert!((10..=10 + 3 * 2).contains(&numbered), "{numbered} datagrams");
        assert!(silent.inbox.received.iter().filter(|item| matches!(item, Received::Upcall(_))).count() < 200);
    }
}
