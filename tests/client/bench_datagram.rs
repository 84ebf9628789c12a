//! `upcall-client bench` over datagrams: the real program against the real daemon. Counts are asserted; what is lost is
//! counted, too, since nothing else was promised.

use std::process::{Command, Stdio};

use crate::support::client::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

struct Upcalld {
    running: Running,
    log: Box<dyn Iterator<Item = String>>,
    _directory: tempfile::TempDir,
    udp: String,
    unix: String,
}

impl Upcalld {
    /// One with a UDP listener, in whose table these lines are, and one for Unix datagrams.
    fn start(udp: &str) -> Upcalld {
        let (directory, socket) = socket_path();
        let file = directory.path().join("upcalld.toml");
        let table = |transport: &str, address: &str| {
            format!("[[listener]]\nname = \"{transport}\"\ntransport = \"{transport}\"\naddress = \"{address}\"\n")
        };
        let unix = socket.to_str().unwrap();
        std::fs::write(&file, [&table("udp", "127.0.0.1:0"), udp, &table("unix-datagram", unix)].concat()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_upcalld"));
        command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = Running::start(&mut command);
        let mut log = Box::new(running.complaints());
        let mut udp = None;
        for line in &mut log {
            udp = udp.or_else(|| Some(format!("udp://{}", line.split_once("udp://")?.1.split_whitespace().next()?)));
            if line.ends_with("ready") {
                break;
            }
        }
        let udp = udp.expect("the log says where it listens");
        Upcalld { running, log, _directory: directory, udp, unix: format!("unix-datagram://{unix}") }
    }
}

/// Runs a bench that must succeed, and returns the first of its results.
fn bench(daemon: &Upcalld, url: &str, arguments: &str) -> Value {
    let pid = daemon.running.child.id().to_string();
    let arguments: Vec<&str> =
        ["bench", "--json", "--server-pid", &pid].into_iter().chain(arguments.split(' ')).collect();
    let done = run(url, &arguments, b"");
    assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    let json: Value = serde_json::from_str(&done.stdout).unwrap();
    println!("{url}: {}", json["results"][0]);
    json["results"][0].clone()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// Every message has come to everyone, or is counted as lost.
fn all_accounted_for(result: &Value, receivers: u64, least: u64) {
    let (messages, lost) = (number(&result["messages"]), number(&result["faults"]["lost"]));
    assert!(messages >= least, "{result}");
    // What was lost while warming up is in the sum, too.
    assert!(number(&result["deliveries"]) + lost >= messages * receivers, "{result}");
    assert!(number(&result["deliveries"]) <= messages * receivers, "{result}");
    for fault in ["damaged", "duplicates", "reordered"] {
        assert_eq!(number(&result["faults"][fault]), 0, "{result}");
    }
}

#[test]
fn every_mode_over_datagrams() {
    within(DEADLINE, || {
        let daemon = Upcalld::start("");
        for url in [&daemon.udp, &daemon.unix] {
            let result = bench(&daemon, url, "fan-out --receivers 20 --messages 3000 --duration 10s");
            all_accounted_for(&result, 21, 1);
            let result = bench(&daemon, url, "latency --receivers 5 --rate 500 --duration 500ms");
            all_accounted_for(&result, 6, 1);
            let result = bench(&daemon, url, "ping-pong --duration 200ms");
            all_accounted_for(&result, 1, 1);
            let result = bench(&daemon, url, "idle --receivers 50 --duration 200ms");
            assert_eq!(number(&result["receivers"]), 50, "{result}");
        }
    });
}

/// What makes it pointless to go on ends it, rather than being counted as loss; and whoever was registered has left.
#[test]
fn a_daemon_that_ends_ends_the_bench() {
    within(DEADLINE, || {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            for transport in ["udp", "unix"] {
                let mut daemon = Upcalld::start("");
                let url = if transport == "udp" { &daemon.udp } else { &daemon.unix };
                let arguments = ["bench", "fan-out", "--receivers", "3", "--duration", "50s"];
                let running = Running::start(&mut client(url, &arguments));
                // Once it is registered, it is measuring soon, or will find out before it does.
                let joined = daemon.log.by_ref().filter(|line| line.contains(" joined from ")).take(4).count();
                assert_eq!(joined, 4);
                kill(Pid::from_raw(daemon.running.child.id() as i32), signal).unwrap();
                let done = running.finish();
                assert_eq!(done.status, Some(69), "{transport}, {signal}: {done:?}");
                let words = if signal == Signal::SIGTERM { "shutdown" } else { "any more" };
                assert!(done.stderr.contains(words), "{transport}: {done:?}");
            }
        }
    });
}

#[test]
fn a_message_that_no_datagram_holds_is_refused() {
    within(DEADLINE, || {
        let daemon = Upcalld::start("");
        let done = run(&daemon.udp, &["bench", "fan-out", "--receivers", "3", "--size", "100000"], b"");
        assert_eq!(done.status, Some(65), "{done:?}");
        assert!(done.stderr.contains("100000 bytes does not fit into a datagram"), "{done:?}");
    });
}

#[test]
fn a_bench_leaves_nobody_behind() {
    within(DEADLINE, || {
        for trusted in ["", "trusted = []\n"] {
            let mut daemon = Upcalld::start(trusted);
            bench(&daemon, &daemon.udp, "idle --receivers 5 --duration 100ms");
            let left = daemon.log.by_ref().filter(|line| line.contains(" left: closed;")).take(6).count();
            assert_eq!(left, 6);
        }
    });
}

/// More strangers than a daemon challenges at once: they ask again until it does.
#[test]
fn strangers_are_let_in_a_few_at_a_time() {
    within(DEADLINE, || {
        let daemon = Upcalld::start("trusted = []\n");
        // A stranger may not say so much in a second.
        let result = bench(&daemon, &daemon.udp, "latency --receivers 40 --rate 100 --duration 500ms");
        assert_eq!(number(&result["receivers"]), 40, "{result}");
        all_accounted_for(&result, 41, 10);
    });
}
