//! `upcall-client listen`: the real program against a daemon that the test plays.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Instant;

use socket2::Socket;

use crate::support::client::*;
use crate::support::scripted::*;
use crate::support::{DEADLINE, within};

#[test]
fn listen_prints_lines_and_reports_nothing() {
    within(DEADLINE, || {
        let directory = tempfile::tempdir().unwrap();
        for daemon in ScriptedDaemon::everywhere(directory.path(), send_and_stay("a\n\nb\x1b\r\nc\n")) {
            let done = run(&daemon.url, &["listen", "-n", "3"], b"not for the daemon\n");
            assert_eq!((done.status, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "a\n\nb\x1b\r\n", ""));
            assert_eq!(daemon.next_received(), "");
        }
    });
}

#[test]
fn an_upcall_without_a_newline_is_a_line_at_once() {
    within(DEADLINE, || {
        let daemon = ScriptedDaemon::tcp(send_and_stay("Upcall event: Processing haii"));
        let mut running = Running::start(&mut client(&daemon.url, &["listen"]));
        assert_eq!(running.lines().next().unwrap(), "Upcall event: Processing haii");
    });
}

#[test]
fn what_reads_like_a_farewell_and_is_none_is_an_upcall() {
    within(DEADLINE, || {
        let daemon = ScriptedDaemon::tcp(send_and_stay("upcalld: shutdown\nupcalld: http\n"));
        let mut running = Running::start(&mut client(&daemon.url, &["listen"]));
        let lines: Vec<String> = running.lines().take(2).collect();
        assert_eq!(lines, ["upcalld: shutdown", "upcalld: http"]);
    });
}

#[test]
fn json_is_an_object_a_line() {
    within(DEADLINE, || {
        let binary = |socket: Socket| {
            (&socket).write_all(b"a\"\xe2\x9c\x93\n\xff\n").unwrap();
            read_to_end(&socket)
        };
        let daemon = ScriptedDaemon::tcp(binary);
        let done = run(&daemon.url, &["listen", "-n2", "--json"], b"");
        let records: Vec<serde_json::Value> =
            done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((records[0]["data"].as_str(), records[1]["data_base64"].as_str()), (Some("a\"✓"), Some("/w==")));
        let time = records[0]["received"].as_str().unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok() && time.len() == "2026-01-01T00:00:00.000Z".len(), "{time}");
        assert_eq!((records.len(), done.status), (2, Some(0)), "{done:?}");
    });
}

#[test]
fn time_over_is_a_failure_only_where_a_count_was_asked_for() {
    within(DEADLINE, || {
        let daemon = ScriptedDaemon::tcp(send_and_stay("a\n"));
        let done = run(&daemon.url, &["listen", "--timeout", "300ms", "-n", "2"], b"");
        assert_eq!((done.status, done.stdout.as_str()), (Some(75), "a\n"), "{done:?}");
        let done = run(&daemon.url, &["listen", "--timeout", "300ms"], b"");
        assert_eq!((done.status, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "a\n", ""));
        let done = run("unix:///nonexistent/socket", &["listen", "--retry", "--timeout", "100ms"], b"");
        assert_eq!(done.status, Some(75), "{done:?}");
    });
}

#[test]
fn a_lost_connection_is_made_again() {
    within(DEADLINE, || {
        let (_directory, path) = socket_path();
        let (end, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let first = ScriptedDaemon::unix(&path, move |socket| {
            (&socket).write_all(b"one\n").unwrap();
            wait.lock().unwrap().recv().unwrap();
            (&socket).write_all(b"upcalld: shutdown\n").unwrap();
            Vec::new()
        });
        let mut running = Running::start(&mut client(&first.url, &["listen", "-n", "2"]));
        let (mut lines, mut complaints) = (running.lines(), running.error_lines());
        assert_eq!(lines.next().unwrap(), "one");
        // The successor is bound before the first one ends, so that no attempt finds the old listener.
        fs::remove_file(&path).unwrap();
        let second = ScriptedDaemon::unix(&path, send_and_stay("two\n"));
        end.send(()).unwrap();
        assert_eq!(lines.next().unwrap(), "two");
        assert_eq!(running.wait().code(), Some(0));
        let lost = complaints.next().unwrap();
        assert!(lost.contains("shutdown") && lost.contains("; retrying, at most 30 s between attempts"), "{lost}");
        assert_eq!(complaints.next().unwrap(), format!("upcall-client: connected to {} again", second.url));
        assert_eq!((lines.next(), complaints.next()), (None, None));
    });
}

#[test]
fn retry_waits_for_a_daemon_that_is_not_there_yet() {
    within(DEADLINE, || {
        let (_directory, path) = socket_path();
        let url = format!("unix://{}", path.display());
        let mut running = Running::start(&mut client(&url, &["listen", "--retry", "-n1"]));
        let complaint = running.error_lines().next().unwrap();
        assert!(complaint.contains("no such socket") && complaint.contains("retrying, at most"), "{complaint}");
        let _daemon = ScriptedDaemon::unix(&path, send_and_stay("one\n"));
        assert_eq!(running.lines().next().unwrap(), "one");
        assert_eq!(running.wait().code(), Some(0));
    });
}

#[test]
fn retrying_ends_where_it_is_pointless() {
    within(DEADLINE, || {
        for arguments in [&["listen"][..], &["listen", "--retry"]] {
            let daemon = ScriptedDaemon::tcp(send_and_close("upcalld: not_allowed\n"));
            assert_eq!(run(&daemon.url, arguments, b"").status, Some(77));
        }
        // A client that is refused at the start ends as one that cannot connect at the start.
        let daemon = ScriptedDaemon::tcp(send_and_close("upcalld: max_endpoints\n"));
        assert_eq!(run(&daemon.url, &["listen"], b"").status, Some(69));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(run(&format!("tcp://127.0.0.1:{port}"), &["listen"], b"").status, Some(69));
    });
}

#[test]
fn listen_ends_with_its_reader() {
    within(DEADLINE, || {
        // Idle, and the reader goes.
        let daemon = ScriptedDaemon::tcp(send_and_stay("a\n"));
        let mut running = Running::start(&mut client(&daemon.url, &["listen"]));
        assert_eq!(running.lines().next().unwrap(), "a");
        let done = running.finish();
        assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""));

        // Waiting to connect, and the reader goes.
        let mut running = Running::start(&mut client("unix:///nonexistent/socket", &["listen", "--retry"]));
        drop(running.child.stdout.take());
        assert_eq!(running.finish().status, Some(0));
    });
}

#[test]
fn every_line_is_there_before_the_next_comes() {
    within(DEADLINE, || {
        let (say, lines) = mpsc::channel::<&str>();
        let lines = Mutex::new(lines);
        let daemon = ScriptedDaemon::tcp(move |socket| {
            for line in lines.lock().unwrap().iter() {
                (&socket).write_all(line.as_bytes()).unwrap();
            }
            Vec::new()
        });
        let mut running = Running::start(&mut client(&daemon.url, &["listen"]));
        let mut printed = running.lines();
        let begun = Instant::now();
        for line in ["one\n", "two\n", "three\n"] {
            say.send(line).unwrap();
            assert_eq!(printed.next().unwrap(), line.trim_end());
        }
        println!("three lines, one after the other: {:?}", begun.elapsed());
    });
}
