//! The library: receipts, filters, sessions, crashes, and a network that loses.

use std::time::Duration;

use upcall_client::{Client, Error, Item, Role, Session, Upcall};

use crate::support::relay::Relay;
use crate::support::{DEADLINE, Daemon, within};

fn next_upcall(client: &mut Client) -> Upcall {
    match client.next_timeout(DEADLINE).unwrap() {
        Some(Item::Upcall(upcall)) => upcall,
        other => panic!("{other:?}"),
    }
}

#[test]
fn filters_change_while_it_listens() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        for url in &daemon.urls() {
            let mut listener = Client::builder(url).filter("a").connect().unwrap();
            let mut sender = Client::builder(url).role(Role::SendOnly).connect().unwrap();
            let subscription = listener.subscribe(&["b/*"]).unwrap();
            assert_eq!((subscription.filters, subscription.everything), (vec!["a".into(), "b/*".into()], false));
            assert_eq!(sender.send_on("b/1", b"1").unwrap().receivers, 1);
            assert_eq!(listener.unsubscribe(&["a"]).unwrap().filters, ["b/*"]);
            assert_eq!(sender.send_on("a", b"2").unwrap().receivers, 0);
            assert_eq!(next_upcall(&mut listener).payload, b"1");
            assert!(listener.unsubscribe(&["b/*"]).unwrap().filters.is_empty());
            assert_eq!(sender.send_on("b/1", b"3").unwrap().receivers, 0, "{url}");
            assert!(matches!(listener.subscribe(&["a\n"]), Err(Error::Invalid(_))));
            let many: Vec<String> = (0..65).map(|i| i.to_string()).collect();
            let many: Vec<&str> = many.iter().map(String::as_str).collect();
            assert!(matches!(listener.subscribe(&many), Err(Error::Refused { .. })));
            assert!(listener.close(DEADLINE).unwrap().is_empty());
        }
    });
}

#[test]
fn a_session_is_kept_and_resumed() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        for url in &daemon.urls() {
            let mut sender = Client::builder(url).role(Role::SendOnly).connect().unwrap();
            let mut listener = Client::connect(url).unwrap();
            sender.send(b"one").unwrap();
            sender.send(b"two").unwrap();
            assert_eq!(next_upcall(&mut listener).payload, b"one");
            // What was received and not taken is delivered again.
            let session = listener.detach().unwrap().to_string();
            sender.send(b"three").unwrap();
            let mut again = Client::builder(url).resume(session.parse::<Session>().unwrap()).connect().unwrap();
            let payloads: Vec<Vec<u8>> = (0..2).map(|_| next_upcall(&mut again).payload).collect();
            assert_eq!(payloads, [&b"two"[..], b"three"], "{url}");
            again.send(b"four").unwrap();
            assert_eq!(next_upcall(&mut again).payload, b"four");
        }
    });
}

#[test]
fn a_crash_leaves_outcomes_unknown_and_starts_a_new_log() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        let quick = Duration::from_millis(20);
        let mut client = Client::builder(&daemon.url("unix")).reconnect(quick, quick).connect().unwrap();
        for i in 0..5 {
            client.send(format!("{i}").as_bytes()).unwrap();
        }
        let daemon = daemon.crash_for_restart().start();
        let receipt = client.send(b"again").unwrap();
        assert_eq!(receipt.sequence, 1);
        let mut items: Vec<Item> = Vec::new();
        while !matches!(items.last(), Some(Item::Upcall(upcall)) if upcall.payload == b"again") {
            items.push(client.next_timeout(DEADLINE).unwrap().unwrap());
        }
        assert!(items.iter().any(|item| matches!(item, Item::Disconnected { .. })), "{items:?}");
        assert!(items.iter().any(|item| matches!(item, Item::Reconnected { resumed: false, new_log: true, .. })));
        drop(daemon);
        assert!(matches!(client.next_timeout(DEADLINE), Ok(Some(Item::Disconnected { .. }))));
    });
}

#[test]
fn the_end_is_reported_once() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        let mut client = Client::builder(&daemon.url("tcp")).no_reconnect().connect().unwrap();
        drop(daemon);
        assert!(matches!(client.next(), Some(Err(Error::Broken(_)))));
        assert!(client.next().is_none());
        assert_eq!(client.send(b"x"), Err(Error::Closed));
    });
}

#[test]
fn its_descriptor_can_be_polled() {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        for url in &daemon.urls() {
            let mut listener = Client::connect(url).unwrap();
            let mut sender = Client::builder(url).role(Role::SendOnly).connect().unwrap();
            while listener.try_next().unwrap().is_some() {}
            sender.send(b"x").unwrap();
            let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, PollTimeout::from(10_000u16)), Ok(1), "{url}");
            assert_eq!(next_upcall(&mut listener).payload, b"x");
        }
    });
}

#[test]
fn nothing_is_lost_over_a_lossy_network() {
    // UPCALL_TEST_INPUTS=100000 for the long run.
    let count: u64 = std::env::var("UPCALL_TEST_INPUTS").map_or(2_000, |count| count.parse().unwrap());
    within(Duration::from_secs(60 + count / 20), move || {
        let daemon = Daemon::everywhere("");
        let relay = Relay::start(&daemon.url("udp"), 7);
        let mut listener = Client::builder(relay.url()).role(Role::ReceiveOnly).connect().unwrap();
        let relay_of_sender = Relay::start(&daemon.url("udp"), 8);
        let mut sender = Client::builder(relay_of_sender.url()).role(Role::SendOnly).connect().unwrap();
        let (mut posted, mut confirmed, mut next) = (0, 0, 1);
        while next <= count || confirmed < count {
            while posted < count && sender.queue("", format!("{posted}").as_bytes()).unwrap().is_some() {
                posted += 1;
            }
            while let Some(item) = sender.try_next().unwrap() {
                match item {
                    Item::SendResult { result: Ok(receipt), .. } => {
                        confirmed += 1;
                        assert_eq!(receipt.receivers, 1);
                    }
                    other => panic!("{other:?}"),
                }
            }
            while let Some(item) = listener.next_timeout(Duration::from_millis(1)).unwrap() {
                match item {
                    Item::Upcall(upcall) => {
                        assert_eq!(upcall.sequence, next);
                        assert_eq!(upcall.payload, format!("{}", next - 1).into_bytes());
                        next += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    });
}
