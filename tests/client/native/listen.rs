//! `listen`: what it prints, and how it reconnects.

use std::io::Read;

use upcall_client::Client;

use crate::support::client::*;
use crate::support::scripted::*;
use crate::support::{DEADLINE, Daemon, Event, until, within};

/// Starts `listen`, and sends an input to topic `t` again and again until the daemon counts a receiver.
fn listening(url: &str, arguments: &[&str], sender: &mut Client) -> (Running, impl Iterator<Item = String> + use<>) {
    let mut running = Running::start(&mut native_client(url, arguments));
    let lines = running.lines();
    while sender.send_on("t", b"are you there").unwrap().receivers == 0 {
        std::thread::yield_now();
    }
    (running, lines)
}

#[test]
fn upcalls_are_printed_as_they_come() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        for url in &daemon.urls() {
            let mut sender = Client::builder(url).role(upcall_client::Role::SendOnly).connect().unwrap();
            let (running, mut lines) = listening(url, &["listen", "-n", "3", "--topic", "t*"], &mut sender);
            assert_eq!(lines.next().unwrap(), "are you there");
            sender.send_on("other", b"not this").unwrap();
            sender.send_on("t/1", b"line\n").unwrap();
            sender.send_on("t/2", b"\x1b").unwrap();
            assert_eq!(lines.by_ref().take(2).collect::<Vec<_>>(), ["line", "\x1b"]);
            assert_eq!((running.finish().status, lines.next()), (Some(0), None), "{url}");
        }
    });
}

#[test]
fn json_templates_and_nul() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        let mut sender = Client::builder(&daemon.url("unix")).role(upcall_client::Role::SendOnly).connect().unwrap();
        let (running, mut lines) = listening(&daemon.url("tcp"), &["listen", "--json", "-n", "1"], &mut sender);
        let record: serde_json::Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
        assert_eq!((record["topic"].as_str(), record["data"].as_str()), (Some("t"), Some("are you there")));
        assert!(record["sequence"].is_u64() && record["from"].is_u64(), "{record}");
        assert!(humantime::parse_rfc3339(record["time"].as_str().unwrap()).is_ok());
        assert_eq!(running.finish().status, Some(0));

        let arguments = ["listen", "-n", "1", "--format", "{topic}: {data}!"];
        let (running, mut lines) = listening(&daemon.url("tcp"), &arguments, &mut sender);
        assert_eq!(lines.next().unwrap(), "t: are you there!");
        assert_eq!(running.finish().status, Some(0));

        let mut running = Running::start(&mut native_client(&daemon.url("tcp"), &["listen", "-n", "1", "-0"]));
        while sender.send(b"a\n").unwrap().receivers == 0 {
            std::thread::yield_now();
        }
        let mut out = Vec::new();
        std::io::Read::read_to_end(&mut running.child.stdout.take().unwrap(), &mut out).unwrap();
        assert_eq!(out, b"a\n\0");

        assert_eq!(run_native(&daemon.url("tcp"), &["listen", "--format", "{dta}"]).status, Some(64));
    });
}

#[test]
fn history_is_sent_where_it_is_allowed() {
    within(DEADLINE, || {
        let config = "[[listener]]\nname = \"a\"\ntransport = \"tcp\"\naddress = \"127.0.0.1:0\"\nhistory = true\n\
                      [[listener]]\nname = \"b\"\ntransport = \"tcp\"\naddress = \"127.0.0.1:0\"\n";
        let daemon = Daemon::start(config);
        let [open, closed] = &["a", "b"].map(|name| daemon.url(name));
        assert_eq!(run_native(open, &["send", "a", "b", "c"]).status, Some(0));
        assert_eq!(run_native(open, &["listen", "--since", "start", "-n", "3"]).stdout, "a\nb\nc\n");
        assert_eq!(run_native(open, &["listen", "--since", "2", "-n", "2"]).stdout, "b\nc\n");
        let done = run_native(closed, &["listen", "--since", "2", "-n", "2"]);
        assert_eq!(done.status, Some(77), "{done:?}");
        assert!(done.stderr.contains("not_permitted"), "{done:?}");
    });
}

#[test]
fn time_ends_it() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        for url in &daemon.urls() {
            assert_eq!(run_native(url, &["listen", "--timeout", "100ms"]).status, Some(0), "{url}");
            assert_eq!(run_native(url, &["listen", "--timeout", "100ms", "-n", "1"]).status, Some(75), "{url}");
        }
    });
}

#[test]
fn it_comes_back_after_a_crash() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        let url = daemon.url("unix");
        let mut sender = Client::connect(&url).unwrap();
        let (mut running, mut lines) = listening(&url, &["listen", "-n", "2"], &mut sender);
        let mut reports = running.error_lines();
        // A receipt counts every connection; the listener knows that it is registered once it has received something.
        assert_eq!(lines.next().unwrap(), "are you there");
        let daemon = daemon.crash_for_restart().start();
        let first = reports.next().unwrap();
        assert!(first.contains("; retrying, at most 30 s between attempts"), "{first}");
        assert!(reports.find(|line| line.contains("connected to")).unwrap().contains("restarted"));
        assert_eq!(run_native(&daemon.url("unix"), &["send", "after"]).status, Some(0));
        assert_eq!(lines.next().unwrap(), "after");
        assert_eq!(running.wait().code(), Some(0));

        let (mut running, mut lines) =
            listening(&url, &["listen", "--no-reconnect"], &mut Client::connect(&url).unwrap());
        assert_eq!(lines.next().unwrap(), "are you there");
        drop(daemon);
        let mut reports = running.error_lines();
        assert!(reports.next().unwrap().contains("closed the connection"));
        assert_eq!(running.wait().code(), Some(74));
    });
}

/// Every attempt to reconnect fails for the same reason, which is reported once.
#[test]
fn an_outage_is_reported_once() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        let url = daemon.url("unix");
        let mut sender = Client::connect(&url).unwrap();
        let (mut running, mut lines) = listening(&url, &["listen"], &mut sender);
        // Until it has printed something, it does not know that it is registered, and gives up where it would
        // reconnect.
        lines.next().unwrap();
        drop((daemon, sender));
        let name = url.strip_prefix("unix://@").unwrap();
        let closing = ScriptedDaemon::abstract_name(name, |socket| {
            let mut hello = vec![0; 100];
            let count = (&socket).read(&mut hello).unwrap();
            socket.shutdown(std::net::Shutdown::Write).unwrap();
            read_to_end(&socket);
            hello[..count].to_vec()
        });
        for _attempt in 0..4 {
            assert!(closing.next_received().starts_with('\0'), "an attempt begins with a HELLO");
        }
        let reports = running.error_lines();
        running.child.kill().unwrap();
        let reports: Vec<String> = reports.collect();
        // The loss, perhaps an attempt before the scripted daemon was there, and the end of the four attempts.
        assert!((1..=3).contains(&reports.len()), "{reports:#?}");
    });
}

#[test]
fn a_signal_sends_bye() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        for (round, url) in daemon.urls().iter().enumerate() {
            let mut sender = Client::builder(url).role(upcall_client::Role::SendOnly).connect().unwrap();
            let (mut running, mut lines) = listening(url, &["listen"], &mut sender);
            // Until it has printed something, it does not know that it is registered, and a signal ends it at once.
            lines.next().unwrap();
            let pid = nix::unistd::Pid::from_raw(running.child.id() as i32);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
            let status = running.wait();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15), "{url}");
            // The client waits for an answer to its BYE for a short time only, so the daemon may read it later than
            // that.
            daemon.wait_count(Event::Left.reason("closed"), 2 * round + 1);
            assert_eq!(sender.send(b"to none").unwrap().receivers, 0, "{url}");
            sender.close(DEADLINE).unwrap();
            daemon.wait_count(Event::Left.reason("closed"), 2 * round + 2);
        }
    });
}

#[test]
fn retry_waits_for_a_daemon() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        let url = daemon.url("unix");
        let setup = daemon.crash();
        assert_eq!(run_native(&url, &["listen", "--timeout", "5s"]).status, Some(69));
        let done = run_native(&url, &["listen", "--retry", "--timeout", "100ms"]);
        assert_eq!(done.status, Some(75), "{done:?}");
        let mut running = Running::start(&mut native_client(&url, &["listen", "--retry", "-n", "1"]));
        assert!(running.error_lines().next().unwrap().contains("retrying, at most"));
        let _daemon = setup.start();
        let mut sender = Client::connect(&url).unwrap();
        until("the listener is registered", || sender.send(b"x").unwrap().receivers > 0);
        assert_eq!(running.wait().code(), Some(0));
    });
}
