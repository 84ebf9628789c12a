//! `upcall-client listen` over UDP and Unix datagrams: the real program against a daemon that the test plays.

use std::fs;
use std::net::UdpSocket;

use crate::support::client::*;
use crate::support::scripted::datagram::{Peer, ScriptedDatagrams};
use crate::support::{DEADLINE, within};

const COOKIES: [&str; 2] = ["0123456789abcdef", "fedcba9876543210"];

#[test]
fn listen_prints_each_datagram_and_leaves() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        for daemon in ScriptedDatagrams::everywhere(directory.path()) {
            let running = Running::start(&mut client(&daemon.url, &["listen", "-n", "4"]));
            let peer = daemon.joined();
            for upcall in ["a\n", "no newline", "", "b\x1b\r\nc\n", "upcalld: from_the_future\n", "one too many\n"] {
                daemon.send(&peer, upcall);
            }
            let done = running.finish();
            let expected = "a\nno newline\nb\x1b\r\nc\nupcalld: from_the_future\n";
            assert_eq!((done.status, done.stdout.as_str(), done.stderr.as_str()), (Some(0), expected, ""));
            assert_eq!(daemon.receive_input(), "bye\n");
        }
    });
}

#[test]
fn json_is_an_object_a_datagram() {
    within(DEADLINE, || {
        let daemon = ScriptedDatagrams::udp();
        let running = Running::start(&mut client(&daemon.url, &["listen", "-n2", "--json"]));
        let peer = daemon.joined();
        daemon.send(&peer, "a\nb\n");
        daemon.send(&peer, b"\xff");
        let done = running.finish();
        let records: Vec<serde_json::Value> =
            done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((records[0]["data"].as_str(), records[1]["data_base64"].as_str()), (Some("a\nb"), Some("/w==")));
        assert_eq!((records.len(), done.status), (2, Some(0)), "{done:?}");
    });
}

#[test]
fn time_over_is_told_apart_and_leaves() {
    within(DEADLINE, || {
        let daemon = ScriptedDatagrams::udp();
        for (arguments, status) in
            [(&["listen", "--timeout", "200ms"][..], 0), (&["listen", "--timeout", "200ms", "-n1"], 75)]
        {
            assert_eq!(run(&daemon.url, arguments, b"").status, Some(status));
            assert_eq!(daemon.receive_input(), "bye\n");
        }
    });
}

#[test]
fn renewals_are_proved_with_fresh_cookies() {
    within(DEADLINE, || {
        let daemon = ScriptedDatagrams::udp();
        let running = Running::start(&mut client(&daemon.url, &["listen", "-n1"]));
        let mut peer = daemon.joined();
        for cookie in COOKIES {
            let challenge = format!("join {cookie}\n");
            daemon.send(&peer, &challenge);
            assert_eq!(daemon.receive().0, challenge);
            peer = daemon.joined();
        }
        daemon.send(&peer, "haii\n");
        assert_eq!(daemon.receive_input(), format!("bye {}\n", COOKIES[1]));
        let done = running.finish();
        assert_eq!((done.status, done.stdout.as_str()), (Some(0), "haii\n"));
    });
}

#[test]
fn a_farewell_ends_or_is_followed_by_joining_again() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        for daemon in ScriptedDatagrams::everywhere(directory.path()) {
            let running = Running::start(&mut client(&daemon.url, &["listen", "--no-reconnect"]));
            daemon.send(&daemon.joined(), "upcalld: shutdown\n");
            let done = running.finish();
            assert_eq!((done.status, done.stdout.as_str()), (Some(69), ""), "{done:?}");
            assert!(done.stderr.contains("shutdown"), "{done:?}");

            let mut running = Running::start(&mut client(&daemon.url, &["listen", "-n1"]));
            let complaints = running.error_lines();
            daemon.send(&daemon.joined(), "upcalld: listener_removed\n");
            daemon.send(&daemon.joined(), "haii\n");
            assert_eq!(running.lines().next().unwrap(), "haii");
            let told: Vec<String> = complaints.collect();
            assert!(told[0].contains("listener_removed") && told[0].contains("retrying"), "{told:?}");
            assert_eq!(told[1..], [format!("upcall-client: joined {} again", daemon.url)]);
            assert_eq!((daemon.receive_input(), running.wait().code()), ("bye\n".into(), Some(0)));
        }
    });
}

#[test]
fn listen_waits_for_a_daemon_that_comes_back() {
    within(DEADLINE, || {
        let (_directory, path) = socket_path();
        let first = ScriptedDatagrams::unix(&path);
        let mut running = Running::start(&mut client(&first.url, &["listen", "-n1"]));
        let mut complaints = running.error_lines();
        first.joined();
        drop(first);
        let complaint = complaints.next().unwrap();
        assert!(complaint.contains("any more") && complaint.contains("retrying"), "{complaint}");
        fs::remove_file(&path).unwrap();
        let second = ScriptedDatagrams::unix(&path);
        second.send(&second.joined(), "haii\n");
        assert_eq!((second.receive_input(), running.finish().status), ("bye\n".into(), Some(0)));
    });
}

#[test]
fn a_restart_between_two_renewals_goes_unnoticed() {
    within(DEADLINE, || {
        let (_directory, path) = socket_path();
        let first = ScriptedDatagrams::unix(&path);
        let running = Running::start(&mut client(&first.url, &["listen", "-n1"]));
        first.joined();
        fs::remove_file(&path).unwrap();
        let second = ScriptedDatagrams::unix(&path);
        drop(first);
        second.send(&second.joined(), "haii\n");
        let done = running.finish();
        assert_eq!((done.status, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "haii\n", ""));
    });
}

#[test]
fn datagrams_of_strangers_are_ignored_over_udp() {
    within(DEADLINE, || {
        let daemon = ScriptedDatagrams::udp();
        let running = Running::start(&mut client(&daemon.url, &["listen", "-n1"]));
        let peer = daemon.joined();
        let Peer::Udp(address) = peer else { panic!("{peer:?}") };
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"forged\n", address).unwrap();
        daemon.send(&peer, "haii\n");
        assert_eq!(running.finish().stdout, "haii\n");
    });
}

#[test]
fn retry_ends_with_the_time() {
    within(DEADLINE, || {
        let done = run("unix-datagram:///nonexistent/socket", &["listen", "--retry", "--timeout", "100ms"], b"");
        assert_eq!(done.status, Some(75), "{done:?}");
    });
}
