//! Datagram sockets and the system: the owner of a socket file, the address that was used, and other programs as
//! clients.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use nix::unistd::geteuid;

use crate::support::{DEADLINE, Daemon, Datagram, Event, Place, Program, listener, skip, skip_without};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";

fn start() -> Daemon {
    Daemon::start(&(Place::DatagramPath.listener("lab", "") + DATA))
}

/// The daemon writes to no socket just because a client claims its name.
#[test]
fn s19_a_name_of_another_socket() {
    let daemon = start();
    let witness = daemon.join_datagram("lab");
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let victim = UnixDatagram::bind(scratch.path().join("victim")).expect("a free path");
    victim.set_nonblocking(true).expect("the option exists");
    // Its path no longer names its own socket: it is a link to the victim, or gone.
    let linked = daemon.datagram("lab");
    std::fs::remove_file(linked.path()).expect("it is there");
    symlink(scratch.path().join("victim"), linked.path()).expect("the path is free");
    linked.send("join");
    let gone = daemon.datagram("lab");
    std::fs::remove_file(gone.path()).expect("it is there");
    gone.send("hello");
    let file = daemon.datagram("lab");
    std::fs::remove_file(file.path()).expect("it is there");
    std::fs::write(file.path(), "precious").expect("the path is free");
    file.send("hello");
    // Registered, and only then replaced by a link to the victim: the daemon still writes to the old socket.
    let changed = daemon.join_datagram("lab");
    std::fs::remove_file(changed.path()).expect("it is there");
    symlink(scratch.path().join("victim"), changed.path()).expect("the path is free");
    witness.send("hello");
    witness.expect("hello");
    for peer in [&linked, &gone, &file] {
        peer.expect_nothing();
    }
    assert!(victim.recv(&mut [0; 64]).is_err(), "the victim gets nothing");
    changed.expect("hello");
    assert_eq!(std::fs::read(file.path()).expect("it is there"), b"precious");
    assert_eq!(daemon.count_now(Event::Joined), 2);
    assert_eq!(daemon.counted("bad_address"), 3);
}

#[test]
fn s19_a_socket_of_another_user() {
    if !geteuid().is_root() {
        return skip("s19_a_socket_of_another_user", "only root can give files away");
    }
    let daemon = start();
    let witness = daemon.join_datagram("lab");
    let peer = daemon.datagram("lab");
    std::os::unix::fs::chown(peer.path(), Some(65_534), None).expect("root may");
    peer.send("join");
    peer.send("hello");
    witness.send("x");
    witness.expect("x");
    peer.expect_nothing();
    assert_eq!(daemon.count_now(Event::Joined), 1);
    assert_eq!(daemon.counted("bad_address"), 2);
}

/// A datagram from a socket without a name is dropped, except at a listener where no endpoint registers.
#[test]
fn peers_without_a_name() {
    let config =
        Place::DatagramPath.listener("lab", "") + &Place::DatagramPath.listener("in", "role = \"input\"\n") + DATA;
    let daemon = Daemon::start(&config);
    let witness = daemon.join_datagram("lab");
    let path = |name| daemon.url(name).strip_prefix("unix-datagram://").expect("a path").to_owned();
    let nameless = UnixDatagram::unbound().expect("a socket");
    nameless.send_to(b"dropped", path("lab")).expect("the daemon is there");
    nameless.send_to(b"read", path("in")).expect("the daemon is there");
    witness.expect("read");
    // The two sockets are read in no particular order.
    let deadline = Instant::now() + DEADLINE;
    while daemon.counted("no_address") != 1 {
        assert!(Instant::now() < deadline, "the datagram without a name was never read");
    }
    witness.expect_nothing();
}

/// A client that sends to 127.0.0.2 is answered from there: the harness refuses datagrams from elsewhere.
#[test]
fn a_wildcard_listener_answers_from_where_it_was_addressed() {
    for (address, own, trusted) in
        [("0.0.0.0:0", "127.0.0.2", ""), ("0.0.0.0:0", "127.0.0.2", "trusted = []\n"), ("[::]:0", "::1", "")]
    {
        if own == "::1" && !Place::Udp6.is_available() {
            skip("a_wildcard_listener_answers_from_where_it_was_addressed", "::1 is not available");
            continue;
        }
        let daemon = Daemon::start(&(listener("lab", "udp", address, &format!("open = true\n{trusted}")) + DATA));
        let to = SocketAddr::new(own.parse().expect("an address"), daemon.port("lab"));
        let from = if own == "::1" { own } else { "127.0.0.1" };
        let peer = Datagram::open_from(from.parse().expect("an address"), to);
        peer.send("join\n");
        if !trusted.is_empty() {
            let challenge = peer.receive();
            peer.send(challenge);
        }
        daemon.wait(Event::Joined);
        for number in 0..100 {
            peer.send(format!("{number}"));
            peer.expect(format!("{number}"));
        }
    }
}

/// The lines of the README: each registers, receives an upcall, and sends an input.
#[test]
fn recipes() {
    let config = listener("udp", "udp", "127.0.0.1:0", "")
        + &listener("path", "unix-datagram", "SCRATCH/d.sock", "")
        + &listener("abstract", "unix-datagram", &format!("@upcalld-test-{}-recipes", std::process::id()), "")
        + DATA;
    let daemon = Daemon::start(&config);
    let (port, scratch) = (daemon.port("udp"), daemon.setup().scratch().display().to_string());
    let name = format!("upcalld-test-{}-recipes", std::process::id());
    let witness = daemon.join_datagram("udp");
    for (number, line) in [
        format!("nc -u 127.0.0.1 {port}"),
        format!("nc -uU {scratch}/d.sock"),
        format!("socat - UDP:127.0.0.1:{port}"),
        format!("socat - UNIX-SENDTO:{scratch}/d.sock,bind={scratch}/me.sock"),
        format!("socat - ABSTRACT-SENDTO:{name},bind={name}-me"),
        format!("ncat -u 127.0.0.1 {port}"),
    ]
    .iter()
    .enumerate()
    {
        let words: Vec<&str> = line.split(' ').collect();
        let Some(mut program) = Program::start(words[0], &words[1..]) else {
            skip_without("recipes", words[0]);
            continue;
        };
        let before = daemon.count(Event::Joined);
        program.type_in("join\n");
        daemon.wait_count(Event::Joined, before + 1);
        program.type_in(&format!("sent by {number}\n"));
        witness.expect(format!("sent by {number}\n"));
        program.wait_output(&format!("sent by {number}\n"));
        witness.send("for it\n");
        witness.expect("for it\n");
        program.wait_output("for it\n");
        program.type_in("bye\n");
        daemon.wait_count(Event::Left.reason("closed"), before); // the witness has joined, too, and stays
    }
}
