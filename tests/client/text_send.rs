//! `upcall-client` on pipes: the real program against a daemon that the test plays.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use socket2::Socket;

use crate::support::client::*;
use crate::support::scripted::*;
use crate::support::{DEADLINE, within};

#[test]
fn send_sends_arguments_on_every_transport() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        for daemon in ScriptedDaemon::everywhere(directory.path(), echo) {
            let done = run(&daemon.url, &["send", "haii", "apa kabar?"], b"");
            assert_eq!((done.status, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "", ""), "{}", daemon.url);
            assert_eq!(daemon.next_received(), "haii\napa kabar?\n");
        }
    });
}

#[test]
fn send_keeps_the_order_of_arguments_stdin_and_file() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lines");
        fs::write(&file, "d\ne").unwrap();
        let daemon = ScriptedDaemon::tcp(echo);
        let done = run(&daemon.url, &["send", "a", "-", "c", "--file", file.to_str().unwrap()], b"b\nbye");
        assert_eq!(done.status, Some(0), "{done:?}");
        assert_eq!(daemon.next_received(), "a\nb\nbye\nc\nd\ne\n");
    });
}

#[test]
fn send_sends_lines_as_they_come() {
    within(DEADLINE, || {
        let (report, received) = mpsc::channel();
        let daemon = ScriptedDaemon::tcp(move |socket| {
            let mut byte = [0; 2];
            (&socket).read_exact(&mut byte).unwrap();
            report.send(byte).unwrap();
            read_to_end(&socket)
        });
        let (reader, mut writer) = std::io::pipe().unwrap();
        let running = Running::start(client(&daemon.url, &["send", "-"]).stdin(reader));
        writer.write_all(b"1\n").unwrap();
        assert_eq!(&received.recv().unwrap(), b"1\n");
        writer.write_all(b"2").unwrap();
        drop(writer);
        assert_eq!(running.finish().status, Some(0));
        assert_eq!(daemon.next_received(), "2\n");
    });
}

#[test]
fn send_refuses_what_a_line_cannot_carry_before_it_connects() {
    within(DEADLINE, || {
        for message in ["", "a\nb"] {
            let done = run("tcp://no-such-host.invalid:1", &["send", "fine", message], b"");
            assert_eq!(done.status, Some(65), "{done:?}");
            assert!(done.stderr.contains("newline") || done.stderr.contains("empty"), "{done:?}");
        }
        let done = run("tcp://no-such-host.invalid:1", &["send", "--file", "/nonexistent/x"], b"");
        assert_eq!(done.status, Some(74), "{done:?}");
        assert!(done.stderr.contains("/nonexistent/x"), "{done:?}");
    });
}

#[test]
fn a_big_send_is_not_blocked_by_its_own_upcalls() {
    within(Duration::from_secs(60), || {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lines");
        let text: String = (0..100_000).map(|i| format!("{i} {}\n", "x".repeat(80))).collect();
        fs::write(&file, &text).unwrap();
        for daemon in ScriptedDaemon::everywhere(directory.path(), echo) {
            let done = run(&daemon.url, &["send", "--linger", "30s", "-f", file.to_str().unwrap()], b"");
            assert_eq!(done.status, Some(0), "{done:?}");
            assert!(daemon.next_received() == text, "not all of it arrived");
        }
    });
}

#[test]
fn send_waits_no_longer_than_it_should() {
    within(DEADLINE, || {
        let (end, wait) = mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let daemon = ScriptedDaemon::tcp(move |socket| {
            // Takes nothing, and does not close.
            let _ = wait.lock().unwrap().recv();
            read_to_end(&socket)
        });
        let done = run(&daemon.url, &["send", "--linger", "100ms", "haii"], b"");
        assert_eq!(done.status, Some(75), "{done:?}");
        assert!(done.stderr.contains("within 100ms") && done.stderr.contains("sent twice"), "{done:?}");
        drop(end);
    });
}

#[test]
fn reasons_are_exit_statuses() {
    within(DEADLINE, || {
        for (line, status, words) in [
            ("upcalld: not_allowed\n", 77, "not_allowed"),
            ("upcalld: max_endpoints\n", 69, "max_endpoints"),
            ("upcalld: shutdown\n", 69, "shutdown"),
            ("upcalld: message_too_large\n", 65, "max_message"),
            ("upcalld: message_timeout\n", 75, "message_timeout"),
            ("upcalld: slow_consumer\n", 74, "slow_consumer"),
            ("upcalld: from_the_future\n", 69, "from_the_future"),
            ("", 69, "gave no reason"),
        ] {
            let daemon = ScriptedDaemon::tcp(send_and_close(line));
            // The other end of this pipe stays open: input never ends.
            let (input, _hold) = pipe();
            for arguments in [&["send", "-"][..], &["listen", "--no-reconnect"], &[]] {
                let input = input.try_clone().unwrap();
                let done = Running::start(client(&daemon.url, arguments).stdin(input)).finish();
                assert_eq!((done.status, done.stdout.as_str()), (Some(status), ""), "{line:?} {arguments:?} {done:?}");
                assert!(done.stderr.starts_with("upcall-client: ") && done.stderr.contains(words), "{done:?}");
                assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
            }
        }
    });
}

#[test]
fn a_reason_is_read_though_the_daemon_stopped_reading() {
    within(DEADLINE, || {
        let daemon = ScriptedDaemon::tcp(|socket| {
            let mut some = [0; 1000];
            (&socket).read_exact(&mut some).unwrap();
            (&socket).write_all(b"upcalld: message_too_large\n").unwrap();
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            read_to_end(&socket)
        });
        let done = run(&daemon.url, &["send", "-"], &vec![b'x'; 1 << 20]);
        assert_eq!(done.status, Some(65), "{done:?}");
        assert!(done.stderr.contains("sent twice"), "{done:?}");
    });
}

#[test]
fn a_reset_is_an_io_error() {
    within(DEADLINE, || {
        let reset = |socket: Socket| {
            socket.set_linger(Some(Duration::ZERO)).unwrap();
            Vec::new()
        };
        let daemon = ScriptedDaemon::tcp(reset);
        let (input, _hold) = pipe();
        for arguments in [&["send", "-"][..], &["listen", "--no-reconnect"], &[]] {
            let input = input.try_clone().unwrap();
            let done = Running::start(client(&daemon.url, arguments).stdin(input)).finish();
            assert_eq!(done.status, Some(74), "{arguments:?} {done:?}");
        }
    });
}

#[test]
fn an_unreachable_daemon_is_named() {
    within(DEADLINE, || {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for (url, status) in [
            (format!("tcp://127.0.0.1:{port}"), 69),
            ("tcp://no-such-host.invalid:1".into(), 68),
            ("unix:///nonexistent/socket".into(), 69),
            ("tpc://x".into(), 64),
        ] {
            for arguments in [&["send", "x"][..], &["listen"], &[]] {
                let done = run(&url, arguments, b"");
                assert_eq!(done.status, Some(status), "{url} {arguments:?} {done:?}");
                let place = url.split("://").nth(1).unwrap().trim_end_matches(":1");
                assert!(done.stderr.contains(place) || status == 64, "{done:?}");
            }
        }
    });
}

#[test]
fn on_a_pipe_everything_passes_byte_for_byte() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        for daemon in ScriptedDaemon::everywhere(directory.path(), echo) {
            let done = run(&daemon.url, &[], b"haii\n\x1b[2J\\\r\n Bye\t\nnever\n");
            assert_eq!(done.status, Some(0), "{done:?}");
            assert_eq!(done.stdout, format!("{EVENT}haii\n{EVENT}\x1b[2J\\\r\n"));
            assert_eq!(done.stderr, "");
            assert_eq!(daemon.next_received(), "haii\n\x1b[2J\\\r\n");
        }
    });
}

#[test]
fn b12_what_is_due_after_a_half_close_still_arrives() {
    within(DEADLINE, || {
        let late = |socket: Socket| {
            let received = read_to_end(&socket);
            (&socket).write_all(&received).unwrap();
            (&socket).write_all(b"no newline").unwrap();
            received
        };
        let daemon = ScriptedDaemon::tcp(late);
        let done = run(&daemon.url, &[], b"one\ntwo");
        assert_eq!((done.status, done.stdout.as_str()), (Some(0), "one\ntwo\nno newline"), "{done:?}");
    });
}

#[test]
fn on_a_pipe_upcalls_are_printed_as_they_come() {
    within(DEADLINE, || {
        let daemon = ScriptedDaemon::tcp(echo);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut running = Running::start(client(&daemon.url, &[]).stdin(reader));
        let mut lines = running.lines();
        for message in ["one", "two"] {
            writeln!(writer, "{message}").unwrap();
            assert_eq!(lines.next().unwrap(), format!("{EVENT}{message}"));
        }
        drop(writer);
        assert_eq!(running.finish().status, Some(0));
    });
}

#[test]
fn input_is_sent_though_upcalls_are_not_read() {
    within(DEADLINE, || {
        let daemon = ScriptedDaemon::tcp(echo);
        let (reader, writer) = pipe();
        drop(reader);
        let (input, mut lines) = std::io::pipe().unwrap();
        let running = Running::start(client(&daemon.url, &[]).stdin(input).stdout(File::from(writer)));
        let text: String = (0..10_000).map(|i| format!("{i}\n")).collect();
        lines.write_all(text.as_bytes()).unwrap();
        drop(lines);
        assert_eq!(running.finish().status, Some(0));
        assert_eq!(daemon.next_received(), text);
    });
}
