//! Native endpoints that do not read: what the other endpoints get, and how the daemon ends.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use upcall_wire::frame::{Code, GapReason, Hello, Role, kind};

use super::{auto, lab};
use crate::support::{DEADLINE, Daemon, Event, Link, Native, Place, Received, over};

over!(each:
    f3_what_is_skipped_is_announced,
    f4_inputs_wait_for_ever,
    f13_everything_pending_is_delivered,
    a_sender_only_gets_receipts_after_a_full_socket,
);

const LIMITS: &str = "[log]\nsize = \"2MiB\"\n[slow_consumer]\nmax_behind = \"256KiB\"\npatience = \"0s\"\n";

/// Sends `count` inputs of `size` bytes, and discards what the sender receives meanwhile.
fn flood(sender: &mut Native, count: usize, size: usize) {
    for number in 0..count {
        let mut payload = format!("{number} ").into_bytes();
        payload.resize(size, b'x');
        sender.send_confirmed("", payload);
        while sender.pump(Duration::ZERO) {}
        sender.inbox.received.clear();
    }
}

/// F3: received and announced are exactly what was sent; the inbox checks every hole. No socket buffer is a multiple of
/// the size of the messages, so that the overrun comes in the middle of a record.
fn f3_what_is_skipped_is_announced(place: Place) {
    let daemon = lab(place, "", &format!("{LIMITS}policy = \"skip\"\n"));
    let mut slow = match place {
        Place::Tcp => {
            let narrow = crate::support::Stream::connect_narrow(&daemon.url("lab"));
            let mut slow = Native::over(Link::Stream(narrow));
            slow.register(&Hello::new(0));
            slow
        }
        _ => Native::join(&daemon, "lab"),
    };
    let mut sender = Native::join_as(&daemon, "lab", &Hello { role: Role::SendOnly, ..Hello::new(0) });
    let (mut sent, mut received, mut missed, mut gaps) = (0, 0, 0, 0);
    for round in 0..4 {
        flood(&mut sender, 1200, 3001 + round);
        sent += 1200;
        // Read half of it, and continue the flood, so that there are gaps in the middle, too.
        let until = if round < 3 { sent - 400 } else { sent };
        let end = Instant::now() + DEADLINE;
        while slow.inbox.position < until {
            assert!(Instant::now() < end, "{} of {sent} are dealt with", slow.inbox.position);
            slow.pump(Duration::from_millis(100));
            for item in slow.inbox.received.drain(..) {
                match item {
                    Received::Upcall(upcall) => {
                        assert!(upcall.payload.ends_with(b"xxxxxxxxxx") && upcall.payload.len() >= 3001);
                        received += 1;
                    }
                    Received::Gap(gap) => {
                        assert_eq!(gap.reason, GapReason::SlowConsumer);
                        missed += gap.last - gap.first + 1;
                        gaps += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!(received + missed, sent, "{gaps} gaps");
    assert!(gaps > 0 && missed > 0 && received > 0, "{gaps} gaps, {missed} missed, {received} received");
    // It goes on as before.
    let (_, due) = sender.send_confirmed("", "after all");
    assert_eq!((due, slow.upcall().payload), (1, b"after all".to_vec()));
}

/// F4: inputs wait for an endpoint that does not read; when all read again, nothing is lost.
fn f4_inputs_wait_for_ever(place: Place) {
    let limits = LIMITS.replace("\"0s\"", "\"forever\"") + "[daemon]\nlog_level = \"debug\"\n";
    let daemon = lab(place, "", &limits);
    let mut slow = Native::join(&daemon, "lab");
    let mut reader = Native::join(&daemon, "lab");
    let url = daemon.url("lab");
    let (count, size) = (1000u64, 3000);
    let sender = std::thread::spawn(move || {
        let mut sender = Native::connect(&url);
        sender.register(&Hello { role: Role::SendOnly, ..Hello::new(0) });
        flood(&mut sender, count as usize, size);
    });
    // This one reads all the time. Inputs stop when the first one is far enough behind.
    let end = Instant::now() + DEADLINE;
    while daemon.count(Event::InputsHeld.endpoint(1)) == 0 {
        assert!(Instant::now() < end, "inputs do not wait");
        reader.pump(Duration::from_millis(5));
    }
    assert!(reader.inbox.position < count, "inputs wait");
    slow.pump(Duration::ZERO);
    while slow.inbox.position < count || reader.inbox.position < count {
        assert!(Instant::now() < end, "{} and {} of {count}", slow.inbox.position, reader.inbox.position);
        slow.pump(Duration::from_millis(5));
        reader.pump(Duration::from_millis(5));
    }
    sender.join().expect("the sender has all its receipts");
    for native in [&slow, &reader] {
        let upcalls = native.inbox.received.iter().filter(|item| matches!(item, Received::Upcall(_))).count();
        assert_eq!(upcalls as u64, count);
    }
}

/// While inputs wait, a SEND in a datagram is answered by `busy`, and taken when it is repeated; its id stays.
#[test]
fn busy_over() {
    for place in [Place::Udp, Place::DatagramAbstract] {
        let config =
            auto(place, "lab", "") + &auto(Place::UnixPath, "streams", "") + &LIMITS.replace("\"0s\"", "\"forever\"");
        let daemon = Daemon::start(&config);
        let mut slow = Native::join(&daemon, "streams");
        let mut sender = Native::join_as(&daemon, "lab", &Hello { role: Role::SendOnly, ..Hello::new(0) });
        let payload = vec![b'x'; 3000];
        let (mut count, mut refused) = (0, false);
        while !refused {
            let id = sender.send("", &payload);
            let answer = sender.take(|item| matches!(item, Received::Receipt(_) | Received::Error { .. }));
            match answer {
                Received::Receipt(receipt) => {
                    assert_eq!((receipt.id, receipt.sequence), (id, id));
                    count += 1;
                }
                Received::Error { code: Code::Busy, about: kind::SEND, reference, .. } => {
                    assert_eq!(reference, id);
                    refused = true;
                }
                other => panic!("{other:?}"),
            }
            assert!(count < 10_000, "it is never busy");
        }
        // Everything else is answered.
        assert!(sender.so_far().is_empty());
        for sequence in 1..=count {
            assert_eq!(slow.upcall().sequence, sequence);
        }
        sender.message -= 1;
        assert_eq!(sender.send_confirmed("", "at last"), (count + 1, 1));
        assert_eq!(slow.upcall().payload, b"at last");
    }
}

/// F13: SIGTERM with thousands pending: endpoints that read get everything, also over acknowledged datagrams.
fn f13_everything_pending_is_delivered(place: Place) {
    let mut daemon = Daemon::start(&(auto(place, "lab", "") + "[daemon]\nshutdown_grace = \"30s\"\n"));
    let mut readers: Vec<Native> = (0..5).map(|_| Native::join(&daemon, "lab")).collect();
    let mut sender = Native::join_as(&daemon, "lab", &Hello { role: Role::SendOnly, ..Hello::new(0) });
    let count = 3000;
    for number in 0..count {
        sender.send_confirmed("", format!("{number:0100}"));
    }
    daemon.signal(Signal::SIGTERM);
    daemon.wait(Event::Draining);
    for (index, reader) in readers.iter_mut().enumerate() {
        let rest = reader.rest();
        let upcalls = rest.iter().filter(|item| matches!(item, Received::Upcall(_))).count();
        assert_eq!(upcalls, count, "reader {index}");
        assert!(rest.contains(&Received::Bye("shutdown".into())), "{:?}", rest.last());
    }
    assert!(sender.rest().contains(&Received::Bye("shutdown".into())));
    drop((readers, sender));
    assert_eq!(daemon.wait_exit().code(), Some(0));
    // A drain ends with a warning if an endpoint did not get everything.
    let entries = daemon.log().all();
    let mut drained = entries.iter().skip_while(|entry| entry.event() != Event::Draining);
    assert!(!place.is_datagram() || drained.all(|entry| entry.level == "info"), "{entries:?}");
}

/// A client that only sends and does not read gets its receipts later, and nothing else.
fn a_sender_only_gets_receipts_after_a_full_socket(place: Place) {
    let daemon = lab(place, "", "[slow_consumer]\npatience = \"0s\"\n");
    let mut other = Native::join(&daemon, "lab");
    let mut sender = Native::join_as(&daemon, "lab", &Hello { role: Role::SendOnly, ..Hello::new(0) });
    for _ in 0..300 {
        sender.send("", "x");
        other.send_confirmed("", "not for those who only send");
        while other.pump(Duration::ZERO) {}
        other.inbox.received.clear();
    }
    let item = sender.so_far();
    assert!(!item.is_empty() && item.iter().all(|item| matches!(item, Received::Receipt(_))), "{item:?}");
}
