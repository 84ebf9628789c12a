//! Datagram endpoints that are not trusted: they prove their address before they are registered.

use std::time::Instant;

use crate::support::{Daemon, Datagram, Event, Place, over};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";
const STRANGERS: &str = "trusted = []\n";

over!(udp:
    a_cookie_registers,
    plain_datagrams_do_not_renew,
    s3_altered_cookies,
    s3_a_cookie_from_another_port,
    bye_needs_the_cookie,
    s5_a_flood_of_requests,
    roles,
);

fn start(place: Place, listener: &str, rest: &str) -> Daemon {
    Daemon::start(&(place.listener("lab", listener) + DATA + rest))
}

/// Asks for a challenge; the line.
fn challenge(peer: &Datagram, request: &str) -> String {
    peer.send(request);
    let line = String::from_utf8(peer.receive()).expect("text");
    let cookie = line.strip_prefix("join ").and_then(|rest| rest.strip_suffix('\n')).expect("a challenge");
    assert!(cookie.len() == 16 && cookie.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
    line
}

/// Registers as strangers do.
fn join(daemon: &Daemon) -> (Datagram, String) {
    let before = daemon.count(Event::Joined);
    let peer = daemon.datagram("lab");
    let line = challenge(&peer, "join\n");
    peer.send(&line);
    daemon.wait_count(Event::Joined, before + 1);
    (peer, line)
}

fn a_cookie_registers(place: Place) {
    let daemon = start(place, STRANGERS, "");
    let peer = daemon.datagram("lab");
    // Its first datagram is not delivered, but answered with a challenge.
    let line = challenge(&peer, "hello there\n");
    assert_eq!(daemon.count_now(Event::Joined), 0);
    peer.send(&line);
    daemon.wait(Event::Joined);
    peer.send("hello");
    peer.expect("hello");
    let (second, _) = join(&daemon);
    second.send("from the second");
    for peer in [&peer, &second] {
        peer.expect("from the second");
    }
    daemon.summary("2 inputs, 3 upcalls");
    // Sent again, even without its newline, it renews the lease.
    peer.send(line.trim_end());
    peer.send("still here");
    peer.expect("still here");
    assert_eq!(daemon.count_now(Event::Joined), 2);
}

fn plain_datagrams_do_not_renew(place: Place) {
    let daemon = start(place, STRANGERS, "[registry]\nlease = \"1s\"\n");
    let ((plain, _), (proved, cookie)) = (join(&daemon), join(&daemon));
    let start = Instant::now();
    let mut inputs = 0;
    while daemon.count(Event::Left.reason("lease_expired")) == 0 {
        assert!(start.elapsed().as_secs() < 30, "no lease ends");
        proved.send(&cookie);
        // Its inputs count, but do not renew: any host could have sent them in its name. 200 are within the limits.
        if inputs < 200 {
            inputs += 1;
            plain.send("x");
            proved.send("y");
            while proved.receive() != b"y" {}
        }
    }
    let line = daemon.log().entries(Event::Left.reason("lease_expired")).remove(0).message;
    assert!(line.contains(&format!("{},", plain.local())) && line.contains(", 1 s; 1 registered"), "{line}");
}

fn s3_altered_cookies(place: Place) {
    const ALTERED: usize = 10_000;
    let daemon = start(place, STRANGERS, "");
    let (witness, _) = join(&daemon);
    let peer = daemon.datagram("lab");
    let line = challenge(&peer, "join\n");
    let digits = b"0123456789abcdef";
    let mut sent = 0;
    while sent < ALTERED {
        // Every change of one digit, of two, and then of many.
        let mut altered = line.clone().into_bytes();
        let mut number = sent + 1;
        for shown in &mut altered[5..21] {
            let value = digits.iter().position(|digit| digit == shown).expect("a digit");
            *shown = digits[(value + number % 16) % 16];
            number /= 16;
        }
        assert_ne!(altered, line.as_bytes());
        peer.send(altered);
        sent += 1;
        if sent % 100 == 0 {
            // What the test sends faster than the daemon reads would be lost, not refused.
            witness.send("done");
            witness.expect("done");
        }
    }
    assert_eq!(daemon.counted("bad_cookie"), ALTERED);
    assert_eq!(daemon.count_now(Event::Joined), 1);
    peer.expect_nothing();
    // The original is still valid.
    peer.send(line);
    daemon.wait_count(Event::Joined, 2);
}

fn s3_a_cookie_from_another_port(place: Place) {
    let daemon = start(place, STRANGERS, "");
    let (one, other) = (daemon.datagram("lab"), daemon.datagram("lab"));
    let line = challenge(&one, "x");
    for wrong in [line.as_str(), "join x", "join  0123456789abcdef", &line.to_uppercase().replace("JOIN", "join")] {
        other.send(wrong);
    }
    let (witness, _) = join(&daemon);
    assert_eq!(daemon.count_now(Event::Joined), 1);
    assert!(daemon.log().entries(Event::Joined)[0].message.contains(&witness.local().to_string()));
    other.expect_nothing();
}

fn bye_needs_the_cookie(place: Place) {
    let daemon = start(place, STRANGERS, "");
    let (peer, line) = join(&daemon);
    // A bye that any host could have sent is answered with what a real one needs.
    assert_eq!(challenge(&peer, "bye"), line);
    peer.send("bye 0123456789abcdef");
    peer.send("still here");
    peer.expect("still here");
    assert_eq!(daemon.count_now(Event::Left), 0);
    assert_eq!(daemon.counted("bad_cookie"), 1);
    peer.send(line.replace("join", "bye"));
    daemon.wait(Event::Left.reason("closed"));
}

/// One source gets a burst of challenges, and then a fixed number a second (10 and 20, in the gate).
fn s5_a_flood_of_requests(place: Place) {
    const REQUESTS: usize = 10_000;
    let daemon = start(place, STRANGERS, "");
    let (witness, _) = join(&daemon);
    let start = Instant::now();
    let flooder = daemon.datagram("lab");
    for request in 1..=REQUESTS {
        flooder.send("join\n");
        if request % 100 == 0 {
            witness.send("done");
            witness.expect("done");
        }
    }
    let most = 20.0 + 10.0 * start.elapsed().as_secs_f64();
    let refused = daemon.counted("rate_limited");
    let challenges = REQUESTS - refused;
    assert!((1.0..=most).contains(&(challenges as f64)), "{challenges} challenges, at most {most}");
    for _ in 0..challenges {
        flooder.receive();
    }
    flooder.expect_nothing();
}

fn roles(place: Place) {
    let config = place.listener("lab", STRANGERS)
        + &place.listener("in", "role = \"input\"\ntrusted = []\n")
        + &place.listener("out", "role = \"output\"\n")
        + DATA;
    let daemon = Daemon::start(&config);
    let (witness, _) = join(&daemon);
    // Where endpoints register, the daemon takes no input from a stranger; where none does, it does, and sends nothing.
    let stranger = daemon.datagram("lab");
    challenge(&stranger, "not delivered");
    let reporter = daemon.datagram("in");
    reporter.send("delivered");
    witness.expect("delivered");
    // The commands of a client that does not know the role are not inputs: the witness gets what comes next.
    for command in ["join", "join                 \n", "bye\n", "bye 0123456789abcdef"] {
        reporter.send(command);
    }
    reporter.send("delivered, too");
    witness.expect("delivered, too");
    assert_eq!(daemon.counted("not_registered"), 4);
    // Where endpoints only receive, an input is refused, but still registers a trusted sender.
    let listener = daemon.datagram("out");
    listener.send("refused");
    daemon.wait_count(Event::Joined, 2);
    witness.send("for both");
    for peer in [&witness, &listener] {
        peer.expect("for both");
    }
    for peer in [&stranger, &reporter] {
        peer.expect_nothing();
    }
    assert_eq!((daemon.counted("output_only"), daemon.count_now(Event::Joined)), (1, 2));
    daemon.summary("3 inputs, 4 upcalls");
}
