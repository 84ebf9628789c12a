//! `upcall-client bench`: the real program against the real daemon, and against daemons that the tests play. Counts are
//! asserted, times only printed.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::client::*;
use crate::support::scripted::*;
use crate::support::terminal::Terminal;
use crate::support::{DEADLINE, Daemon, Place, within};

/// A daemon with the listeners `tcp` and `unix`; `listener` goes into the tables of both, `rest` behind them.
fn start(listener: &str, rest: &str) -> Daemon {
    Daemon::start(
        &(Place::Tcp.auto_listener("tcp", listener) + &Place::UnixPath.auto_listener("unix", listener) + rest),
    )
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
    assert_eq!((&json["address"], &json["daemon"]["name"]), (&url.into(), &"upcalld".into()));
    let result = json["results"][0].clone();
    assert_eq!((&result["correct"], &result["foreign"]), (&true.into(), &0.into()));
    assert!(result["daemon_cpu"]["seconds"].is_number() && result["generator_cpu"]["seconds"].is_number());
    result
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// Runs a bench that must fail like this.
fn fails(url: &str, arguments: &str, status: i32, words: &str) {
    let arguments: Vec<&str> = ["bench"].into_iter().chain(arguments.split(' ')).collect();
    let done = run(url, &arguments, b"");
    assert_eq!(done.status, Some(status), "{done:?}");
    assert!(done.stderr.contains(words), "{done:?}");
}

#[test]
fn fan_out_counts_every_delivery() {
    within(DEADLINE, || {
        let daemon = start("", "");
        for url in &daemon.urls() {
            let result = bench(&daemon, url, "fan-out --receivers 20 --messages 3000 --duration 10s");
            assert_eq!((number(&result["messages"]), number(&result["deliveries"])), (3_000, 3_000 * 21));
            let result = bench(&daemon, url, "fan-out --receivers 3 --messages 200 --window 1 --size 50000 -d 10s");
            assert_eq!(number(&result["deliveries"]), 200 * 4);
            // Ended by time, every message that was sent is still waited for.
            let result = bench(&daemon, url, "fan-out --receivers 2 --duration 100ms --size 48");
            assert_eq!(number(&result["deliveries"]), number(&result["messages"]) * 3);
        }
    });
}

#[test]
fn messages_larger_than_a_socket_holds_stay_whole() {
    within(DEADLINE, || {
        let daemon = start("", "[upcall]\nmax_message = \"2MiB\"\n");
        for url in &daemon.urls() {
            let result = bench(&daemon, url, "fan-out --receivers 3 --messages 20 --window 2 --size 1000000 -d 10s");
            assert_eq!(number(&result["deliveries"]), 20 * 4);
        }
    });
}

#[test]
fn latency_and_round_trips_are_counted_once_each() {
    within(DEADLINE, || {
        let daemon = start("", "");
        for url in &daemon.urls() {
            let result = bench(&daemon, url, "latency --receivers 10 --rate 2000 --messages 200 --duration 10s");
            assert_eq!((number(&result["deliveries"]), number(&result["latency_us"]["count"])), (2_200, 2_200));
            assert_eq!(number(&result["sent_late_us"]["count"]), 200);
            let result = bench(&daemon, url, "ping-pong --messages 100 --duration 10s");
            let times = &result["latency_us"];
            assert_eq!((number(&result["messages"]), number(&times["count"])), (100, 100));
            assert!(times["p50"].as_f64().unwrap() <= times["max"].as_f64().unwrap());
        }
    });
}

#[test]
fn the_memory_of_idle_connections_is_measured() {
    within(DEADLINE, || {
        let daemon = start("", "");
        for url in &daemon.urls() {
            let result = bench(&daemon, url, "idle --receivers 50 --duration 100ms");
            assert!(result["daemon_bytes_per_connection"].is_number() && result["daemon_wakeups"].is_number());
            assert_eq!(number(&result["deliveries"]), 0);
        }
    });
}

#[test]
fn any_format_with_the_data_in_it_will_do() {
    within(DEADLINE, || {
        for format in ["{data}", "{seq} {from}\\n{data}--\\n"] {
            let daemon = start("", &format!("[upcall]\nformat = \"{format}\"\n"));
            let result = bench(&daemon, &daemon.url("unix"), "fan-out --receivers 5 --messages 2000");
            assert_eq!(number(&result["deliveries"]), 2_000 * 6, "{format}");
        }
    });
}

#[test]
fn the_publisher_need_not_receive_its_own() {
    within(DEADLINE, || {
        let daemon = start("", "[upcall]\ndeliver_to = \"others\"\n");
        let result = bench(&daemon, &daemon.url("tcp"), "fan-out --receivers 5 --messages 100");
        assert_eq!((number(&result["deliveries"]), &result["echo"]), (500, &false.into()));
        fails(&daemon.url("tcp"), "ping-pong --timeout 200ms", 75, "needs deliver_to = \"all\" or \"sender\"");
    });
}

#[test]
fn without_a_mode_three_modes_run() {
    within(DEADLINE, || {
        let daemon = start("", "");
        let done = run(&daemon.url("unix"), &["bench", "--receivers", "3", "--duration", "100ms"], b"");
        assert_eq!((done.status, done.stderr.as_str()), (Some(0), ""), "{done:?}");
        for words in ["fan-out ", "latency ", "ping-pong ", "a delivery, ", "(upcalld, pid ", "round trip ", " % #"] {
            assert!(done.stdout.contains(words), "{words}: {}", done.stdout);
        }
        let done = run(&daemon.url("tcp"), &["bench", "idle", "--receivers", "1", "--duration", "1ms"], b"");
        assert!(done.stdout.contains("unknown; use --server-pid"), "{done:?}");
    });
}

#[test]
fn what_cannot_work_says_why() {
    within(DEADLINE, || {
        let sender = start("", "[upcall]\ndeliver_to = \"sender\"\n");
        fails(&sender.url("unix"), "fan-out --timeout 200ms", 75, "deliver_to is \"sender\"");
        let silent = start("", "[upcall]\nformat = \"something\\n\"\n");
        fails(&silent.url("tcp"), "fan-out --timeout 200ms --receivers 2", 75, "must contain {data}");
        let input = start("role = \"input\"", "");
        fails(&input.url("tcp"), "latency --timeout 200ms --receivers 2", 75, "role \"input\"");
        let output = start("role = \"output\"", "");
        fails(&output.url("unix"), "idle --receivers 2", 69, "output_only");
        let full = start("max_endpoints = 3", "");
        fails(&full.url("unix"), "fan-out --receivers 3", 69, "listener_max_endpoints");
        let small = start("", "[upcall]\nmax_message = \"100B\"\n");
        fails(&small.url("unix"), "fan-out --size 101", 65, "message_too_large");
        fails("unix:///nonexistent/socket", "idle", 69, "no such socket");
        fails("tcp://127.0.0.1:1", "ping-pong --rate 1", 64, "--rate means nothing to bench ping-pong");
    });
}

#[test]
fn others_are_ignored_and_counted() {
    within(DEADLINE, || {
        let daemon = start("", "");
        let arguments = ["bench", "latency", "--json", "--receivers", "2", "--rate", "100", "--duration", "1s"];
        let bench = Running::start(&mut client(&daemon.url("tcp"), &arguments));
        // Sent until the bench has ended, so some of it arrives while it measures.
        let mut talker = client(&daemon.url("unix"), &["send", "--linger", "10s", "-"]);
        let mut talker = Running::start(talker.stdin(Stdio::piped()));
        let mut lines = talker.child.stdin.take().unwrap();
        let (end, ended) = mpsc::channel();
        let talking = thread::spawn(move || {
            while ended.recv_timeout(Duration::from_millis(1)).is_err() {
                lines.write_all(b"bench:000000000000:00000000:0000000000000000 x\n").unwrap();
            }
        });
        let done = bench.finish();
        end.send(()).unwrap();
        talking.join().unwrap();
        assert_eq!(done.status, Some(0), "{done:?}");
        let result = &serde_json::from_str::<Value>(&done.stdout).unwrap()["results"][0];
        assert_eq!(number(&result["deliveries"]), number(&result["messages"]) * 3);
        assert!(number(&result["foreign"]) > 0, "{result}");
    });
}

/// A daemon of one connection that answers each line with what `answer` makes of it and of how many there were before.
fn scripted(answer: impl Fn(usize, &str) -> String + Send + Sync + 'static) -> ScriptedDaemon {
    ScriptedDaemon::tcp(move |socket| {
        let mut lines = BufReader::new(&socket).lines().map_while(Result::ok).enumerate();
        lines.try_for_each(|(i, line)| (&socket).write_all(answer(i, &line).as_bytes())).ok();
        Vec::new()
    })
}

#[test]
fn what_is_wrong_is_found() {
    within(DEADLINE, || {
        let twice = scripted(|i, line| if i == 5 { format!("{line}\n{line}\n") } else { format!("{line}\n") });
        fails(&twice.url, "ping-pong --messages 20", 65, "ping-pong: wrong at 1 of 1 receivers: 1 received twice");
        let damaged = scripted(|i, line| format!("{}{line}\n", if i == 5 { &line[..30] } else { "" }));
        fails(&damaged.url, "ping-pong --messages 20", 65, "1 damaged");
        let hole = scripted(|i, line| if i == 5 { String::new() } else { format!("{line}\n") });
        fails(
            &hole.url,
            "ping-pong --messages 20 --timeout 200ms",
            75,
            "nothing was received for 200ms: 1 of 1 receivers",
        );
    });
}

#[test]
fn a_stuck_daemon_ends_the_bench() {
    within(DEADLINE, || {
        let mute = ScriptedDaemon::tcp(|socket| read_to_end(&socket));
        fails(&mute.url, "ping-pong --timeout 100ms", 75, "does not receive its own messages");
        let stuck = ScriptedDaemon::tcp(|socket| {
            thread::park();
            drop(socket);
            Vec::new()
        });
        fails(&stuck.url, "ping-pong --timeout 100ms --size 1000000", 75, "100ms");
    });
}

#[test]
fn progress_is_one_line_of_a_terminal() {
    within(DEADLINE, || {
        let daemon = start("", "");
        let command = client(&daemon.url("unix"), &["bench", "fan-out", "--receivers", "2", "--duration", "500ms"]);
        let mut terminal = Terminal::start(command, None);
        // A busy machine may not show the rest.
        terminal.expect("\r0 of 2 connections are made\x1b[K");
        terminal.expect("\r\x1b[K  fan-out ");
        assert!(terminal.end().success());
    });
}
