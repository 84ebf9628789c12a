//! `upcall-client` over UDP and Unix datagrams: the real program against a daemon that the test plays.

use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::client::*;
use crate::support::scripted::datagram::ScriptedDatagrams;
use crate::support::scripted::*;
use crate::support::{DEADLINE, within};

const CHALLENGE: &str = "join 0123456789abcdef\n";

#[test]
fn send_joins_sends_and_leaves() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        for daemon in ScriptedDatagrams::everywhere(directory.path()) {
            let running = Running::start(&mut client(&daemon.url, &["send", "haii", "apa \u{1b} kabar?", "bye bye"]));
            daemon.joined();
            // At once: before the first renewal.
            let received: Vec<String> = (0..4).map(|_| daemon.receive().0).collect();
            assert_eq!(received, ["haii\n", "apa \u{1b} kabar?\n", "bye bye\n", "bye\n"], "{}", daemon.url);
            let done = running.finish();
            assert_eq!((done.status, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "", ""));
        }
    });
}

#[test]
fn a_challenge_is_answered_before_anything_is_sent() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        for daemon in [ScriptedDatagrams::udp(), ScriptedDatagrams::unix(&directory.path().join("s"))] {
            let (input, mut lines) = std::io::pipe().unwrap();
            let running = Running::start(client(&daemon.url, &["send", "-"]).stdin(input));
            let peer = daemon.joined();
            daemon.send(&peer, CHALLENGE);
            assert_eq!(daemon.receive_input(), CHALLENGE);
            lines.write_all(b"haii\n").unwrap();
            drop(lines);
            assert_eq!(
                (daemon.receive_input(), daemon.receive_input()),
                ("haii\n".into(), CHALLENGE.replace("join", "bye"))
            );
            let done = running.finish();
            assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""));
        }
    });
}

#[test]
fn send_reports_what_was_not_taken() {
    within(DEADLINE, || {
        let daemon = ScriptedDatagrams::udp();
        let (input, mut lines) = std::io::pipe().unwrap();
        let running = Running::start(client(&daemon.url, &["send", "-"]).stdin(input));
        lines.write_all(b"too early\n").unwrap();
        let peer = daemon.joined();
        assert_eq!(daemon.receive_input(), "too early\n");
        daemon.send(&peer, CHALLENGE);
        assert_eq!(daemon.receive_input(), CHALLENGE);
        lines.write_all(b"haii\n").unwrap();
        drop(lines);
        let done = running.finish();
        assert_eq!(done.status, Some(75), "{done:?}");
        assert!(done.stderr.contains("1 of 2 messages") && done.stderr.contains("sent twice"), "{done:?}");
    });
}

#[test]
fn commands_are_not_sent_as_messages() {
    within(DEADLINE, || {
        let nowhere = "udp://no-such-host.invalid:1";
        for message in ["join", "join us", "bye", " BYE "] {
            let done = run("unix-datagram:///nonexistent/socket", &["send", "fine", message], b"");
            assert_eq!(done.status, Some(65), "{done:?}");
            assert!(done.stderr.contains(message.trim()) && done.stderr.contains("use tcp or unix"), "{done:?}");
        }
        assert_eq!(run(nowhere, &["send", "bye bye"], b"").status, Some(65), "it may want proof");
        assert_eq!(run(nowhere, &["send", "a", ""], b"").status, Some(65));

        let daemon = ScriptedDatagrams::udp();
        for arguments in [&["send", "-"][..], &[]] {
            let done = run(&daemon.url, arguments, b"fine\njoin us\n");
            assert_eq!(done.status, Some(65), "{done:?}");
            assert_eq!((daemon.receive_input(), daemon.receive_input()), ("fine\n".into(), "bye\n".into()));
        }
    });
}

#[test]
fn what_no_datagram_holds_is_refused() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        let [udp, unix, _] = ScriptedDatagrams::everywhere(directory.path());
        for (daemon, length) in [(&udp, 65_520), (&udp, 1 << 20), (&unix, 1 << 20)] {
            let line = [vec![b'x'; length], b"\n".to_vec()].concat();
            let done = run(&daemon.url, &["send", "-"], &line);
            assert_eq!(done.status, Some(65), "{length} {done:?}");
            assert!(done.stderr.contains("datagram") && done.stderr.contains("use tcp"), "{done:?}");
        }
    });
}

#[test]
fn on_a_pipe_inputs_and_upcalls_pass() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        for daemon in ScriptedDatagrams::everywhere(directory.path()) {
            let url = daemon.url.clone();
            let inputs = thread::spawn(move || daemon.echo());
            let done = run(&url, &[], b"haii\n\x1b[2J\\\r\n Bye\t\nnever\n");
            assert_eq!(done.stdout, format!("{EVENT}haii\n{EVENT}\x1b[2J\\\r\n"));
            assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""));
            assert_eq!(inputs.join().unwrap(), ["haii\n", "\x1b[2J\\\r\n"]);
        }
    });
}

#[test]
fn a_missing_daemon_is_named() {
    within(DEADLINE, || {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for (url, status) in [
            (format!("udp://127.0.0.1:{port}"), 69),
            (format!("udp://localhost:{port}"), 69),
            ("udp://no-such-host.invalid:1".into(), 68),
            ("unix-datagram:///nonexistent/socket".into(), 69),
            ("unix-datagram://@upcalld-no-such-listener".into(), 69),
        ] {
            for arguments in [&["send", "x"][..], &["listen"], &[]] {
                let done = run(&url, arguments, b"");
                assert_eq!(done.status, Some(status), "{url} {arguments:?} {done:?}");
                assert!(done.stderr.contains("running?") || status == 68, "{done:?}");
            }
        }
    });
}

#[test]
fn a_daemon_that_ends_is_noticed() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        for daemon in ScriptedDatagrams::everywhere(directory.path()) {
            // The other end of this pipe stays open: input never ends.
            let (input, _hold) = pipe();
            let mut running = Vec::new();
            for arguments in [&["send", "-"][..], &["listen", "--no-reconnect"], &[]] {
                running.push(Running::start(client(&daemon.url, arguments).stdin(input.try_clone().unwrap())));
                daemon.joined();
            }
            // Without a word.
            drop(daemon);
            for running in running {
                let done = running.finish();
                assert_eq!(done.status, Some(69), "{done:?}");
                assert!(done.stderr.contains("any more") || done.stderr.contains("is upcalld running?"), "{done:?}");
            }
        }
    });
}

#[test]
fn signals_leave_before_they_end() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        for daemon in ScriptedDatagrams::everywhere(directory.path()) {
            let (input, _hold) = pipe();
            for (arguments, signal) in
                [(&["listen"][..], Signal::SIGTERM), (&["listen"], Signal::SIGINT), (&["send", "-"], Signal::SIGINT)]
            {
                let input = input.try_clone().unwrap();
                let mut running = Running::start(client(&daemon.url, arguments).stdin(input).stderr(std::io::stderr()));
                let peer = daemon.joined();
                // Held until the end: a reader that goes would end it, too.
                let mut lines = running.lines();
                if arguments == ["listen"] {
                    // From here on it only listens, and no longer checks whether the daemon is there.
                    daemon.send(&peer, "haii\n");
                    assert_eq!(lines.next().unwrap(), "haii");
                } else {
                    // The first renewal: likewise.
                    daemon.joined();
                }
                kill(Pid::from_raw(running.child.id().try_into().unwrap()), signal).unwrap();
                assert_eq!(running.wait().signal(), Some(signal as i32));
                assert_eq!(daemon.receive_input(), "bye\n");
            }
        }
    });
}

#[test]
fn many_lines_arrive_in_order() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lines");
        let lines: Vec<String> = (0..300).map(|i| format!("{i}\n")).collect();
        fs::write(&file, lines.concat()).unwrap();
        for daemon in ScriptedDatagrams::everywhere(directory.path()) {
            let running = Running::start(&mut client(&daemon.url, &["send", "-f", file.to_str().unwrap()]));
            daemon.joined();
            for line in &lines {
                assert_eq!(daemon.receive_input(), *line, "{}", daemon.url);
            }
            assert_eq!((daemon.receive_input(), running.finish().status), ("bye\n".into(), Some(0)));
        }
    });
}

#[test]
fn send_waits_no_longer_than_it_should() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lines");
        fs::write(&file, "haii\n".repeat(5_000)).unwrap();
        // Takes nothing.
        let daemon = ScriptedDatagrams::abstract_name();
        let arguments = ["send", "--linger", "100ms", "-f", file.to_str().unwrap()];
        let done = run(&daemon.url, &arguments, b"");
        assert_eq!(done.status, Some(75), "{done:?}");
        assert!(done.stderr.contains("did not accept everything within 100ms"), "{done:?}");
        drop(daemon);
    });
}
