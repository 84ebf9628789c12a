//! Where there is no room for another endpoint: a client that resumes a session over its own connection is let in, and
//! no other.

use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;
use upcall_wire::frame::{Frame, Hello, Resume};

use super::{auto, lab};
use crate::slow_consumer::lines;
use crate::support::{DEADLINE, Daemon, Event, Native, Place, Received, Stream, figure, over};

over!(each: a_resume_over_a_live_connection_needs_no_room);

/// A client that replaces a connection of its own needs no free place.
fn a_resume_over_a_live_connection_needs_no_room(place: Place) {
    let limit = "max_endpoints = 2\nmax_per_source = 2\n";
    let daemon = lab(place, limit, "[registry]\nmax_endpoints = 2\n");
    let mut sender = Native::join(&daemon, "lab");
    let mut old = Native::join(&daemon, "lab");
    sender.send_confirmed("", "1");
    assert_eq!(old.upcall().payload, b"1");
    let begin = Instant::now();
    let answer = Native::connect(&daemon.url("lab")).hello(&Hello::new(0));
    assert!(!matches!(answer, Received::Welcome(_)), "there is no room: {answer:?}");
    figure("l12", &format!("a HELLO is refused within {:.2?}", begin.elapsed()));
    let hello = Hello { resume: Some(old.session()), ..Hello::new(0) };
    let (mut new, answer) = Native::hello_at_accept(&daemon, "lab", &hello);
    assert!(matches!(answer, Received::Welcome(_)), "it takes its own place: {answer:?}");
    assert!(old.rest().contains(&Received::Bye("superseded".into())));
    assert_eq!(sender.send_confirmed("", "2").1, 1, "it counts once");
    assert_eq!(new.upcall().payload, b"2");
}

/// A silent connection is refused by name, and soon, although it might have a session to resume.
#[test]
fn l12_silence_where_there_is_no_room() {
    let daemon = lab(Place::Tcp, "max_endpoints = 1", "");
    let _one = Native::join(&daemon, "lab");
    let begin = Instant::now();
    daemon.connect("lab").expect_rest("upcalld: listener_max_endpoints\n");
    figure("l12", &format!("silence is refused by name within {:.2?}", begin.elapsed()));
    let text = daemon.connect("lab");
    text.send("me too\n");
    text.expect_rest("upcalld: listener_max_endpoints\n");
}

/// A client that takes its own place is not counted as refused.
#[test]
fn a_client_that_replaces_its_own_connection_is_not_counted_as_refused() {
    let daemon = lab(Place::Tcp, "max_endpoints = 1", "");
    let mut old = Native::join(&daemon, "lab");
    daemon.connect("lab").expect_rest("upcalld: listener_max_endpoints\n");
    let hello = Hello { resume: Some(old.session()), ..Hello::new(0) };
    let (_new, answer) = Native::hello_at_accept(&daemon, "lab", &hello);
    assert!(matches!(answer, Received::Welcome(_)), "{answer:?}");
    assert!(old.rest().contains(&Received::Bye("superseded".into())));
    assert_eq!(daemon.counted("listener_max_endpoints"), 1, "the silent one only");
}

/// While inputs wait, the daemon reads from no connection in the waiting room, but admits the one that replaces its
/// own: otherwise it could never be admitted while an endpoint stays slow.
#[test]
fn a_client_that_replaces_its_own_connection_is_admitted_while_inputs_wait() {
    let rest = "[log]\nsize = \"4MiB\"\n[slow_consumer]\nmax_behind = \"1MiB\"\npatience = \"forever\"\n\
                [daemon]\nlog_level = \"debug\"\n";
    let daemon = Daemon::start(
        &(auto(Place::Tcp, "lab", "max_endpoints = 2") + &auto(Place::Tcp, "in", "role = \"input\"") + rest),
    );
    let old = Native::join(&daemon, "lab");
    let stalled = Stream::connect_narrow(&daemon.url("lab"));
    daemon.wait_connected(2);
    let sender = daemon.connect("in");
    let sending = thread::spawn(move || sender.send(lines(2_000, 1_000)));
    daemon.wait(Event::InputsHeld);
    let before = daemon.connected();
    let url = daemon.url("lab");
    daemon.stop();
    let native = Native::connect(&url);
    native.raw(&Frame::Hello(Hello { resume: Some(old.session()), nonce: 1, ..Hello::new(0) }).to_vec());
    daemon.signal(Signal::SIGCONT);
    daemon.wait_connected(before + 1);
    assert_eq!(daemon.count(Event::Refused), 0);
    drop((stalled, old));
    sending.join().expect("everything could be sent");
}

/// A listener is removed while a connection, with a session at another listener, is in its waiting room.
#[test]
fn a_connection_waiting_at_a_removed_listener_is_refused() {
    let stays = auto(Place::Tcp, "stays", "");
    let rest = "[registry]\nmax_endpoints = 1\n";
    let daemon = Daemon::start(&(stays.clone() + &auto(Place::Tcp, "goes", "") + rest));
    let old = Native::join(&daemon, "stays");
    let before = daemon.descriptors();
    let late = daemon.connect("goes");
    let end = Instant::now() + DEADLINE;
    // On a busy machine the daemon may have refused it before the test sees that it is there.
    while daemon.descriptors() == before && daemon.count(Event::Refused) == 0 {
        assert!(Instant::now() < end, "it is not accepted");
    }
    daemon.stop();
    late.send(Frame::Hello(Hello { resume: Some(old.session()), nonce: 1, ..Hello::new(0) }).to_vec());
    daemon.setup().write_config(&(stays + rest));
    daemon.signal(Signal::SIGHUP);
    daemon.signal(Signal::SIGCONT);
    // If the daemon handles its HELLO before the reload, it is registered, and then disconnected. It always gets a
    // reason.
    let rest = late.read_until_eof().escape_ascii().to_string();
    assert!(rest.contains("max_endpoints") || rest.contains("listener_removed"), "{rest}");
}

/// Strangers in the waiting room are refused: with the id of a session but not its secret, byte by byte, with their
/// side closed, as a crowd. The registered endpoints do not notice.
#[test]
fn strangers_in_the_waiting_room_are_refused() {
    let daemon = lab(Place::Tcp, "max_endpoints = 2", "");
    let (mut one, mut other) = (Native::join(&daemon, "lab"), Native::join(&daemon, "lab"));
    let refused = "upcalld: listener_max_endpoints\n";
    let before = daemon.descriptors();
    let Resume { id, secret, last } = one.session();
    let hello = |resume| Frame::Hello(Hello { resume: Some(resume), nonce: 1, ..Hello::new(0) }).to_vec();
    for (id, byte) in [(id, 1), (id, 0x80), (id + 1, 0), (id + 2, 0)] {
        let mut secret = secret;
        secret[15] ^= byte;
        let stranger = daemon.connect("lab");
        stranger.send(hello(Resume { id, secret, last }));
        stranger.expect_rest(refused);
    }
    let right = hello(one.session());
    for count in [1, right.len() - 1] {
        let slow = daemon.connect("lab");
        slow.send(&right[..count]);
        slow.expect_rest(refused);
    }
    let half = daemon.connect("lab");
    half.finish();
    half.expect_rest(refused);
    let crowd: Vec<Stream> = (0..200).map(|_| daemon.connect("lab")).collect();
    assert_eq!(one.send_confirmed("", "still here").1, 1);
    assert_eq!(other.upcall().payload, b"still here");
    crowd.iter().for_each(|stranger| stranger.expect_rest(refused));
    drop((half, crowd));
    daemon.wait_descriptors(before);
    assert_eq!(daemon.disconnected(), 0);
}
