//! `send` and `ping`: what is confirmed, and how they exit.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use upcall_client::{Client, Item};

use crate::support::client::*;
use crate::support::scripted::*;
use crate::support::{DEADLINE, Daemon, within};

/// The payloads of what comes next.
fn payloads(client: &mut Client, count: usize) -> Vec<String> {
    let mut payloads = Vec::new();
    while payloads.len() < count {
        match client.next_timeout(DEADLINE).unwrap() {
            Some(Item::Upcall(upcall)) => payloads.push(String::from_utf8(upcall.payload).unwrap()),
            other => panic!("{other:?}"),
        }
    }
    payloads
}

#[test]
fn what_is_sent_is_confirmed_on_every_transport() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        for url in &daemon.urls() {
            let mut listener = Client::builder(url).filter("t").connect().unwrap();
            let done = run_native(url, &["send", "-v", "--topic", "t", "a", "b\nc", ""]);
            assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""), "{url}");
            assert_eq!(done.stdout.matches(": 1 receiver\n").count(), 3, "{done:?}");
            assert_eq!(payloads(&mut listener, 3), ["a", "b\nc", ""]);
            listener.close(DEADLINE).unwrap();
        }
    });
}

#[test]
fn lines_are_sent_as_they_come() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        let mut listener = Client::connect(&daemon.url("tcp")).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        let running = Running::start(native_client(&daemon.url("unix"), &["send", "-", "end"]).stdin(reader));
        writer.write_all(b"1\n").unwrap();
        assert_eq!(payloads(&mut listener, 1), ["1"]);
        writer.write_all(b"2").unwrap();
        drop(writer);
        assert_eq!(payloads(&mut listener, 2), ["2", "end"]);
        assert_eq!(running.finish().status, Some(0));
    });
}

#[test]
fn many_lines_arrive_once_and_in_order() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lines");
        let lines: Vec<String> = (0..5_000).map(|i| format!("{i} {}", "x".repeat(i % 100))).collect();
        fs::write(&file, lines.join("\n")).unwrap();
        for url in &daemon.urls() {
            let mut listener = Client::connect(&daemon.url("unix")).unwrap();
            let done = run_native(url, &["send", "--linger", "15s", "-f", file.to_str().unwrap()]);
            assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""), "{url}");
            assert!(payloads(&mut listener, lines.len()) == lines, "{url}");
        }
    });
}

#[test]
fn too_few_receivers_are_a_failure() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        let done = run_native(&daemon.url("tcp"), &["send", "--require-receivers", "1", "a", "b"]);
        assert_eq!(done.status, Some(69), "{done:?}");
        assert!(done.stderr.contains("2 of 2 inputs had fewer receivers than --require-receivers 1"), "{done:?}");
        let _listener = Client::connect(&daemon.url("unix")).unwrap();
        let done = run_native(&daemon.url("tcp"), &["send", "--json", "--require-receivers", "1", "a"]);
        let record: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!(
            (done.status, record["sequence"].as_u64(), record["receivers"].as_u64()),
            (Some(0), Some(3), Some(1))
        );
    });
}

#[test]
fn what_cannot_be_sent_is_named() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("line");
        fs::write(&file, "x".repeat(100_000)).unwrap();
        for url in &daemon.urls() {
            let done = run_native(url, &["send", "-f", file.to_str().unwrap()]);
            assert_eq!(done.status, Some(65), "{url} {done:?}");
            assert!(done.stderr.contains("too_large"), "{done:?}");
            let done = run_native(url, &["send", "--topic", "a*", "x"]);
            assert_eq!(done.status, Some(64), "{done:?}");
        }
    });
}

#[test]
fn a_text_daemon_is_distinguished_from_one_that_refuses() {
    within(DEADLINE, || {
        for (line, status, words) in [
            ("upcalld: protocol\n", 76, "--protocol text"),
            ("Upcall event: Processing \n", 76, "--protocol text"),
            ("upcalld: max_endpoints\n", 69, "max_endpoints"),
            ("upcalld: not_allowed\n", 77, "not_allowed"),
        ] {
            for arguments in [&["send", "x"][..], &["listen"], &["ping"], &["exec", "--", "true"]] {
                let daemon = ScriptedDaemon::tcp(send_and_close(line));
                let done = run_native(&daemon.url, arguments);
                assert_eq!(done.status, Some(status), "{line} {arguments:?} {done:?}");
                assert!(done.stderr.contains(words), "{done:?}");
            }
        }
        let daemon = ScriptedDaemon::tcp(echo);
        let done = run_native(&daemon.url, &["ping", "--timeout", "200ms"]);
        // An echoed HELLO without a newline means nothing; the random bytes in it may contain a newline, which ends a
        // line.
        assert!(matches!(done.status, Some(75 | 76)), "{done:?}");
    });
}

#[test]
fn a_ping_is_a_health_check() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        for url in &daemon.urls() {
            let done = run_native(url, &["ping"]);
            assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""), "{url}");
            assert!(done.stdout.starts_with(&format!("{url} answered in ")), "{done:?}");
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for url in
            [format!("tcp://127.0.0.1:{port}"), format!("udp://127.0.0.1:{port}"), "unix://@no-such-socket".into()]
        {
            assert_eq!(run_native(&url, &["ping"]).status, Some(69), "{url}");
        }
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = format!("udp://{}", silent.local_addr().unwrap());
        assert_eq!(run_native(&url, &["ping", "--timeout", "300ms"]).status, Some(75));
    });
}

#[test]
fn a_token_opens_and_is_kept_from_others() {
    within(DEADLINE, || {
        let listener = |name: &str, transport: &str, address: &str| {
            format!(
                "[[listener]]\nname = \"{name}\"\ntransport = \"{transport}\"\naddress = \"{address}\"\n\
                 token_file = \"SCRATCH/token\"\n"
            )
        };
        let directory = tempfile::tempdir().unwrap();
        let token = directory.path().join("token");
        fs::write(&token, "open sesame\n").unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        let config = [listener("a", "tcp", "127.0.0.1:0"), listener("b", "udp", "127.0.0.1:0")].concat();
        let config = config.replace("SCRATCH", directory.path().to_str().unwrap());
        let daemon = Daemon::start(&config);
        let path = token.to_str().unwrap();
        for url in &daemon.urls() {
            assert_eq!(run_native(url, &["ping", "--token-file", path]).status, Some(0), "{url}");
            let mut by_environment = native_client(url, &["send", "x"]);
            let done = Running::start(by_environment.env("UPCALL_TOKEN_FILE", path)).finish();
            assert_eq!(done.status, Some(0), "{done:?}");
            let done = run_native(url, &["ping"]);
            assert_eq!(done.status, Some(77), "{done:?}");
            assert!(done.stderr.contains("unauthorized"), "{done:?}");
        }
        fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
        let done = run_native(&daemon.url("a"), &["ping", "--token-file", path]);
        assert_eq!(done.status, Some(64), "{done:?}");
        assert!(done.stderr.contains("chmod") && !done.stderr.contains("sesame"), "{done:?}");
    });
}
