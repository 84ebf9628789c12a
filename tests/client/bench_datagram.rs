//! `upcall-client bench` over datagrams: the real program against the real daemon. Counts are asserted; what is lost is
//! counted, too, since nothing else was promised.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::client::*;
use crate::support::{DEADLINE, Daemon, Event, Place, within};

/// A daemon with the listeners `udp`, with these lines in its table, and `unix`, for Unix datagrams.
fn start(udp: &str) -> Daemon {
    Daemon::start(&(Place::Udp.auto_listener("udp", udp) + &Place::DatagramPath.auto_listener("unix", "")))
}

/// Runs a bench that must succeed, and returns the first of its results.
fn bench(daemon: &Daemon, url: &str, arguments: &str) -> Value {
    let pid = daemon.pid().to_string();
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

/// Every message has reached every receiver, or is counted as lost.
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
        let daemon = start("");
        for url in &daemon.urls() {
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

/// The end of the daemon ends the bench, and is not counted as loss.
#[test]
fn a_daemon_that_ends_ends_the_bench() {
    within(DEADLINE, || {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            for transport in ["udp", "unix"] {
                let daemon = start("");
                let url = &daemon.url(transport);
                let arguments = ["bench", "fan-out", "--receivers", "3", "--duration", "50s"];
                let running = Running::start(&mut client(url, &arguments));
                // Once it is registered, it is measuring soon, or will find out before it does.
                daemon.wait_count(Event::Joined, 4);
                daemon.signal(signal);
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
        let daemon = start("");
        let done = run(&daemon.url("udp"), &["bench", "fan-out", "--receivers", "3", "--size", "100000"], b"");
        assert_eq!(done.status, Some(65), "{done:?}");
        assert!(done.stderr.contains("100000 bytes does not fit into a datagram"), "{done:?}");
    });
}

#[test]
fn a_bench_leaves_no_endpoint_behind() {
    within(DEADLINE, || {
        for trusted in ["", "trusted = []\n"] {
            let daemon = start(trusted);
            bench(&daemon, &daemon.url("udp"), "idle --receivers 5 --duration 100ms");
            daemon.wait_count(Event::Left.reason("closed"), 6);
        }
    });
}

/// More strangers than a daemon challenges at once: they ask again until it does.
#[test]
fn strangers_are_let_in_a_few_at_a_time() {
    within(DEADLINE, || {
        let daemon = start("trusted = []\n");
        // A stranger may send fewer inputs a second.
        let result = bench(&daemon, &daemon.url("udp"), "latency --receivers 40 --rate 100 --duration 500ms");
        assert_eq!(number(&result["receivers"]), 40, "{result}");
        all_accounted_for(&result, 41, 10);
    });
}
