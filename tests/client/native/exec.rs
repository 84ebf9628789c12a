//! `exec`: what commands get, how they fail, and that none is left behind.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use upcall_client::{Client, Role};

use crate::support::client::*;
use crate::support::{DEADLINE, Daemon, until, within};

fn sender(url: &str) -> Client {
    Client::builder(url).role(Role::SendOnly).connect().unwrap()
}

/// Starts `exec` for one topic.
fn executing(url: &str, arguments: &[&str], topic: &str) -> Running {
    Running::start(&mut native_client(url, &[&["exec", "--topic", topic], arguments].concat()))
}

/// Sends the input again and again until an endpoint is there to receive it: exactly one is received.
fn send_when_received(sender: &mut Client, payload: &[u8]) {
    while sender.send_on("t", payload).unwrap().receivers == 0 {
        std::thread::yield_now();
    }
}

fn await_file(path: &Path) -> String {
    let mut text = String::new();
    until(&format!("{path:?} is written"), || {
        text = fs::read_to_string(path).unwrap_or_default();
        text.ends_with('\n')
    });
    text
}

fn is_gone(pid: &str) -> bool {
    // A killed process that its new parent has not waited for yet has the state Z.
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
}

fn await_gone(pid: &str) {
    until(&format!("{pid} is gone"), || is_gone(pid));
}

#[test]
fn a_command_gets_the_upcall_and_three_descriptors() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        for url in &daemon.urls() {
            let script = "echo \"$UPCALL_SEQUENCE|$UPCALL_TOPIC|$UPCALL_FROM|$UPCALL_TIME|$0|$(cat)\"; ls /proc/$$/fd";
            let (_keep, extra) = std::io::pipe().unwrap();
            // Without close-on-exec: what a careless parent leaves open.
            nix::fcntl::fcntl(&extra, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
            let running = executing(url, &["-n", "1", "--", "sh", "-c", script, "$(id)"], "t");
            let mut sender = sender(url);
            send_when_received(&mut sender, b"pay\nload");
            let done = running.finish();
            let (first, rest) = done.stdout.split_once('\n').unwrap();
            assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""), "{url}");
            let fields: Vec<&str> = first.split('|').collect();
            assert!(fields[0].parse::<u64>().is_ok() && fields[2].parse::<u64>().is_ok(), "{first}");
            assert!(humantime::parse_rfc3339(fields[3]).is_ok(), "{first}");
            assert_eq!((fields[1], fields[4], fields[5]), ("t", "$(id)", "pay"));
            let descriptors: Vec<&str> = rest.lines().skip(1).collect();
            assert_eq!(descriptors.len(), 3, "{rest}");
        }
    });
}

#[test]
fn failures_are_reported_and_counted() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        let running = executing(&daemon.url("tcp"), &["-n", "3", "--", "sh", "-c", "read -r how; $how"], "t");
        let mut sender = sender(&daemon.url("unix"));
        send_when_received(&mut sender, b"exit 3\n");
        sender.send_on("t", b"true\n").unwrap();
        sender.send_on("t", b"kill -9 0\n").unwrap();
        let done = running.finish();
        assert_eq!(done.status, Some(70), "{done:?}");
        for words in ["sh failed with exit status 3", "sh was killed by signal 9", "2 of 3 commands failed"] {
            assert!(done.stderr.contains(words), "{words}: {done:?}");
        }
        let running = executing(&daemon.url("tcp"), &["-n", "1", "--", "/nonexistent/command"], "t");
        send_when_received(&mut sender, b"x");
        let done = running.finish();
        assert_eq!(done.status, Some(70), "{done:?}");
        assert!(done.stderr.contains("/nonexistent/command cannot be run"), "{done:?}");
    });
}

#[test]
fn an_unread_payload_stops_nothing() {
    within(DEADLINE, || {
        let daemon = Daemon::start(
            "[upcall]\nmax_message = \"1MiB\"\n[[listener]]\nname = \"tcp\"\ntransport = \"tcp\"\naddress = \"127.0.0.1:0\"\n\
             protocol = \"native\"\n",
        );
        let mut sender = sender(&daemon.url("tcp"));
        let payload = vec![b'x'; 1 << 20];
        for (script, expected) in
            [("exit 0", ""), ("exec <&-; sleep 0.05", ""), ("wc -c", "1048576\n"), ("sleep 0.05", "")]
        {
            let running = executing(&daemon.url("tcp"), &["-n", "1", "--", "sh", "-c", script], "t");
            send_when_received(&mut sender, &payload);
            let done = running.finish();
            assert_eq!((done.status, done.stdout.as_str()), (Some(0), expected), "{script} {done:?}");
        }
    });
}

#[test]
fn no_process_is_left_behind() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        let directory = tempfile::tempdir().unwrap();
        let pids = directory.path().join("pids");
        let write = format!("echo $$ $! > {0}.new; mv {0}.new {0}", pids.display());
        let mut sender = sender(&daemon.url("unix"));
        for (script, how, status) in [
            // Its time is over; it has ended, but what it started has not; a signal ends `exec`.
            ("sleep 1000 & WRITE; wait", "timeout", Some(70)),
            ("sleep 1000 & WRITE", "", Some(0)),
            ("sleep 1000 & WRITE; wait", "signal", None),
        ] {
            let script = script.replace("WRITE", &write);
            let timeout: &[&str] = if how == "timeout" { &["--job-timeout", "300ms"] } else { &[] };
            let arguments = [timeout, &["-n", "1", "--", "sh", "-c", &script]].concat();
            let mut running = executing(&daemon.url("tcp"), &arguments, "t");
            send_when_received(&mut sender, b"");
            let started = await_file(&pids);
            fs::remove_file(&pids).unwrap();
            if how == "signal" {
                kill(Pid::from_raw(running.child.id() as i32), Signal::SIGTERM).unwrap();
            }
            assert_eq!(running.wait().code(), status, "{how}");
            started.split_whitespace().for_each(await_gone);
        }
    });
}

#[test]
fn commands_run_one_after_the_other_and_nothing_is_missed_meanwhile() {
    within(DEADLINE, || {
        let daemon = Daemon::everywhere("");
        for url in &daemon.urls() {
            let directory = tempfile::tempdir().unwrap();
            let lock = directory.path().join("lock");
            let script = format!("mkdir {0} && cat && echo && sleep 0.02 && rmdir {0}", lock.display());
            let running = executing(url, &["-n", "10", "--", "sh", "-c", &script], "t");
            let mut sender = sender(url);
            send_when_received(&mut sender, b"0");
            for i in 1..10 {
                sender.send_on("t", i.to_string().as_bytes()).unwrap();
            }
            let done = running.finish();
            let expected: String = (0..10).map(|i| format!("{i}\n")).collect();
            assert_eq!((done.status, done.stdout.as_str()), (Some(0), expected.as_str()), "{url} {done:?}");
        }
    });
}
