//! `listen`: what it prints, what it misses, and how it comes back.

use std::time::Duration;

use upcall_client::Client;

use crate::client_support::{DEADLINE, Running, within};
use crate::upcalld::{Upcalld, native, run};

/// Starts it, and sends something until it is heard: from then on it is registered.
fn listening(url: &str, arguments: &[&str], sender: &mut Client) -> (Running, impl Iterator<Item = String> + use<>) {
    let mut running = Running::start(&mut native(url, arguments));
    let lines = running.lines();
    while sender.send_on("t", b"are you there").unwrap().receivers == 0 {
        std::thread::yield_now();
    }
    (running, lines)
}

#[test]
fn upcalls_are_printed_as_they_come() {
    within(DEADLINE, || {
        let daemon = Upcalld::start();
        for url in &daemon.urls {
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
        let daemon = Upcalld::start();
        let mut sender = Client::builder(daemon.unix()).role(upcall_client::Role::SendOnly).connect().unwrap();
        let (running, mut lines) = listening(daemon.tcp(), &["listen", "--json", "-n", "1"], &mut sender);
        let record: serde_json::Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
        assert_eq!((record["topic"].as_str(), record["data"].as_str()), (Some("t"), Some("are you there")));
        assert!(record["sequence"].is_u64() && record["from"].is_u64(), "{record}");
        assert!(humantime::parse_rfc3339(record["time"].as_str().unwrap()).is_ok());
        assert_eq!(running.finish().status, Some(0));

        let arguments = ["listen", "-n", "1", "--format", "{topic}: {data}!"];
        let (running, mut lines) = listening(daemon.tcp(), &arguments, &mut sender);
        assert_eq!(lines.next().unwrap(), "t: are you there!");
        assert_eq!(running.finish().status, Some(0));

        let mut running = Running::start(&mut native(daemon.tcp(), &["listen", "-n", "1", "-0"]));
        while sender.send(b"a\n").unwrap().receivers == 0 {
            std::thread::yield_now();
        }
        let mut out = Vec::new();
        std::io::Read::read_to_end(&mut running.child.stdout.take().unwrap(), &mut out).unwrap();
        assert_eq!(out, b"a\n\0");

        assert_eq!(run(daemon.tcp(), &["listen", "--format", "{dta}"]).status, Some(64));
    });
}

#[test]
fn history_is_had_where_it_is_allowed() {
    within(DEADLINE, || {
        let config = "[[listener]]\nname = \"a\"\ntransport = \"tcp\"\naddress = \"127.0.0.1:0\"\nhistory = true\n\
                      [[listener]]\nname = \"b\"\ntransport = \"tcp\"\naddress = \"127.0.0.1:0\"\n";
        let (_scratch, daemon) = Upcalld::configured(config);
        let [open, closed, ..] = &daemon.urls;
        assert_eq!(run(open, &["send", "a", "b", "c"]).status, Some(0));
        assert_eq!(run(open, &["listen", "--since", "start", "-n", "3"]).stdout, "a\nb\nc\n");
        assert_eq!(run(open, &["listen", "--since", "2", "-n", "2"]).stdout, "b\nc\n");
        let done = run(closed, &["listen", "--since", "2", "-n", "2"]);
        assert_eq!(done.status, Some(77), "{done:?}");
        assert!(done.stderr.contains("not_permitted"), "{done:?}");
    });
}

#[test]
fn time_ends_it() {
    within(DEADLINE, || {
        let daemon = Upcalld::start();
        for url in &daemon.urls {
            assert_eq!(run(url, &["listen", "--timeout", "100ms"]).status, Some(0), "{url}");
            assert_eq!(run(url, &["listen", "--timeout", "100ms", "-n", "1"]).status, Some(75), "{url}");
        }
    });
}

#[test]
fn it_comes_back_after_a_crash() {
    within(DEADLINE, || {
        let daemon = Upcalld::start();
        let url = daemon.unix().to_owned();
        let mut sender = Client::connect(&url).unwrap();
        let (mut running, mut lines) = listening(&url, &["listen", "-n", "2"], &mut sender);
        let mut complaints = running.complaints();
        // A receipt counts whoever has connected: it is let in once it hears.
        assert_eq!(lines.next().unwrap(), "are you there");
        let daemon = daemon.crash_and_start();
        let first = complaints.next().unwrap();
        assert!(first.contains("; retrying, at most 30 s between attempts"), "{first}");
        assert!(complaints.find(|line| line.contains("connected to")).unwrap().contains("restarted"));
        assert_eq!(run(daemon.unix(), &["send", "after"]).status, Some(0));
        assert_eq!(lines.next().unwrap(), "after");
        assert_eq!(running.wait().code(), Some(0));

        let (mut running, mut lines) =
            listening(&url, &["listen", "--no-reconnect"], &mut Client::connect(&url).unwrap());
        assert_eq!(lines.next().unwrap(), "are you there");
        drop(daemon);
        let mut complaints = running.complaints();
        assert!(complaints.next().unwrap().contains("closed the connection"));
        assert_eq!(running.wait().code(), Some(74));
    });
}

#[test]
fn what_keeps_a_daemon_away_is_said_once() {
    within(DEADLINE, || {
        let daemon = Upcalld::start();
        let (url, urls) = (daemon.unix().to_owned(), daemon.urls.clone());
        let mut sender = Client::connect(&url).unwrap();
        let (mut running, _lines) = listening(&url, &["listen"], &mut sender);
        let mut complaints = running.complaints();
        drop((daemon, sender));
        // The loss, the first attempt in vain, and nothing of those that follow: there are some in this time.
        std::thread::sleep(Duration::from_secs(4));
        let _daemon = Upcalld::start_again(urls);
        let said: Vec<String> = complaints.by_ref().take_while(|line| !line.contains("connected to")).collect();
        assert!((1..=2).contains(&said.len()), "{said:#?}");
    });
}

#[test]
fn a_signal_says_goodbye() {
    within(DEADLINE, || {
        let daemon = Upcalld::start();
        for url in &daemon.urls {
            let mut sender = Client::builder(url).role(upcall_client::Role::SendOnly).connect().unwrap();
            let (mut running, _lines) = listening(url, &["listen"], &mut sender);
            let pid = nix::unistd::Pid::from_raw(running.child.id() as i32);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
            let status = running.wait();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15), "{url}");
            assert_eq!(sender.send(b"to nobody").unwrap().receivers, 0, "{url}");
        }
    });
}

#[test]
fn retry_waits_for_a_daemon() {
    within(DEADLINE, || {
        let daemon = Upcalld::start();
        let url = daemon.unix().to_owned();
        let urls = daemon.urls.clone();
        drop(daemon);
        assert_eq!(run(&url, &["listen", "--timeout", "5s"]).status, Some(69));
        let done = run(&url, &["listen", "--retry", "--timeout", "100ms"]);
        assert_eq!(done.status, Some(75), "{done:?}");
        let mut running = Running::start(&mut native(&url, &["listen", "--retry", "-n", "1"]));
        assert!(running.complaints().next().unwrap().contains("retrying, at most"));
        let _daemon = Upcalld::start_again(urls);
        let mut sender = Client::connect(&url).unwrap();
        while sender.send(b"x").unwrap().receivers == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(running.wait().code(), Some(0));
    });
}
