//! Datagrams with a forged source. They need raw sockets, and a network namespace of their own, which no datagram
//! leaves.

use std::process::Command;
use std::time::Instant;

use nix::unistd::geteuid;

use crate::support::{DEADLINE, Daemon, Event, Place, Setup, figure, listener, skip, skip_without};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";
pub(crate) const FORGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/forge.py");

/// A daemon in a network namespace of its own, which has only the loopback interface. The forged sources
/// (198.18.0.0/15) are routed to it.
pub(crate) fn in_a_network(test: &str, config: &str) -> Option<Daemon> {
    if !geteuid().is_root() {
        skip(test, "only root may forge datagrams");
        return None;
    }
    for program in ["unshare", "nsenter", "ip", "python3"] {
        if Command::new(program).arg("--version").output().is_err() {
            skip_without(test, program);
            return None;
        }
    }
    if !Command::new("unshare").args(["-n", "true"]).status().is_ok_and(|status| status.success()) {
        skip(test, "network namespaces are not allowed here");
        return None;
    }
    // What is sent to a forged source has to go somewhere, to be counted. rp_filter would drop what comes from there.
    let network = "set -e
        for f in all default lo; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; done 2>/dev/null || true
        ip link set lo up; ip route add 198.18.0.0/15 dev lo
        echo 1 > /proc/sys/net/ipv4/conf/all/accept_local 2>/dev/null || true
        exec \"$@\"";
    Some(Setup::new(config).under(&["unshare", "-n", "sh", "-c", network, "sh"]).start())
}

/// Runs the forger in the network of the daemon; returns what it prints.
pub(crate) fn forge(daemon: &Daemon, arguments: &[&str]) -> String {
    let pid = daemon.pid().to_string();
    let mut command = Command::new("timeout");
    command.args(["60", "nsenter", "-n", "-t", &pid, "python3", FORGE]).args(arguments);
    let output = command.output().expect("nsenter can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// 10,000 sources that never see an answer, and requests of 1 to 1,200 bytes.
#[test]
fn s1_s2_forged_sources() {
    let config = Place::Udp.listener("lab", "") + DATA;
    let Some(daemon) = in_a_network("s1_s2_forged_sources", &config) else { return };
    let said = forge(&daemon, &[&daemon.port("lab").to_string(), "10000"]);
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [sent, answered, answers] = numbers[..] else { panic!("{said}") };
    assert!(sent > 10_000 * 29, "the forger has sent, and the capture seen, {said}");
    assert!(answers > 100, "strangers are answered at all: {said}");
    assert!(answered <= 3 * sent, "at most three times the bytes: {said}");
    // The capture saw both kinds: 22 bytes behind 28 of headers are a challenge, and nothing else was sent.
    assert_eq!(answered, answers * 50, "each answer is one challenge: {said}");
    assert_eq!(daemon.count_now(Event::Joined), 0);
    daemon.summary(
        "summary: 0 endpoints, 0 of them registered for upcalls, 0 behind; 0 registered since the start; 0 inputs,",
    );
    figure("s1", &format!("{said:?}, ratio {:.3}", answered as f64 / sent as f64));
}

/// One forged datagram makes each of two daemons a client of the other: they must not go on for ever.
#[test]
fn s6_two_daemons() {
    for trusted in ["", "trusted = []\n"] {
        let config = listener("one", "udp", "127.0.0.1:4141", trusted) + DATA;
        let Some(one) = in_a_network("s6_two_daemons", &config) else { return };
        let config = listener("other", "udp", "127.0.0.1:4142", trusted) + DATA;
        let pid = one.pid().to_string();
        let other = Setup::new(&config).under(&["nsenter", "-n", "-t", &pid]).start();
        forge(&one, &["one", "4142", "4141"]);
        forge(&one, &["one", "4141", "4142"]);
        let (mut before, mut quiet, start) = (String::new(), 0, Instant::now());
        // Wait until the counters stand still. A datagram on its way changes them soon: it arrives at once, and is read
        // at the latest in the turn behind the next summary.
        while quiet < 10 {
            let counters = [&one, &other].map(Daemon::all_counted).concat();
            quiet = if counters == before { quiet + 1 } else { 0 };
            assert!(start.elapsed() < DEADLINE, "they do not come to rest: {counters}");
            before = counters;
        }
        let inputs = (one.counted_inputs(), other.counted_inputs());
        figure("s6", &format!("inputs {inputs:?}; {before}"));
        assert!(inputs.0 + inputs.1 <= 4, "{inputs:?} inputs: {before}");
        // Each daemon handled the forged datagram: as an input where it was trusted, and with a challenge elsewhere.
        assert_eq!(inputs, if trusted.is_empty() { (1, 1) } else { (0, 0) });
        for daemon in [&one, &other] {
            assert!(daemon.counted("looped") > 0, "what the other sent is known by its mark");
        }
    }
}
