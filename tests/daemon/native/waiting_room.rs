//! Where there is no room: who resumes a session over its own connection is let in, and nobody else.

use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use upcall_wire::frame::{Frame, Hello, Resume};

use super::{auto, lab};
use crate::slow_consumer::lines;
use crate::support::{DEADLINE, Daemon, Event, Native, Place, Received, Stream, figure, over};

over!(each: a_resume_over_a_live_connection_needs_no_room);

/// Where there is no room for anybody else, there is for whoever takes the place of a connection of its own.
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
    // Whoever is refused all the same was too late with its HELLO: this machine may be busy.
    let hello = Hello { resume: Some(old.session()), ..Hello::new(0) };
    let mut new = (0..50)
        .find_map(|_| {
            let mut native = Native::connect(&daemon.url("lab"));
            matches!(native.hello(&hello), Received::Welcome(_)).then_some(native)
        })
        .expect("it takes its own place");
    assert!(old.rest().contains(&Received::Bye("superseded".into())));
    assert_eq!(sender.send_confirmed("", "2").1, 1, "it counts once");
    assert_eq!(new.upcall().payload, b"2");
}

/// Who says nothing where there is no room is refused by name, and soon, though it might have had a session to resume.
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

/// Nobody is refused who takes its own place, and nobody is counted so.
#[test]
fn who_takes_its_own_place_is_not_counted_as_refused() {
    let daemon = lab(Place::Tcp, "max_endpoints = 1", "");
    let mut old = Native::join(&daemon, "lab");
    let hello = Hello { resume: Some(old.session()), ..Hello::new(0) };
    let mut attempts = 0;
    loop {
        let mut native = Native::connect(&daemon.url("lab"));
        if matches!(native.hello(&hello), Received::Welcome(_)) {
            break;
        }
        attempts += 1;
        assert!(attempts < 50, "it never came in");
    }
    assert!(old.rest().contains(&Received::Bye("superseded".into())));
    assert_eq!(daemon.counted("listener_max_endpoints"), attempts);
}

/// While inputs wait, nobody at the door is heard, but seen all the same: with who is slow for ever it might else never come in.
#[test]
fn who_takes_its_own_place_is_let_in_while_inputs_wait() {
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
    for attempt in 1.. {
        assert!(attempt <= 50, "it never came in");
        let native = Native::connect(&daemon.url("lab"));
        native.raw(&Frame::Hello(Hello { resume: Some(old.session()), nonce: 1, ..Hello::new(0) }).to_vec());
        let is_decided = |daemon: &Daemon| daemon.connected() - before + daemon.count(Event::Refused) == attempt;
        let end = Instant::now() + DEADLINE;
        while !is_decided(&daemon) {
            assert!(Instant::now() < end, "nothing becomes of it");
            thread::yield_now();
        }
        if daemon.connected() > before {
            break;
        }
    }
    drop((stalled, old));
    sending.join().expect("everything could be sent");
}

/// A listener goes while somebody is at its door who has a session elsewhere: nobody gets in where nobody listens.
#[test]
fn whoever_is_at_the_door_of_a_removed_listener_is_refused() {
    let stays = auto(Place::Tcp, "stays", "");
    let rest = "[registry]\nmax_endpoints = 1\n";
    let daemon = Daemon::start(&(stays.clone() + &auto(Place::Tcp, "goes", "") + rest));
    let old = Native::join(&daemon, "stays");
    let before = daemon.descriptors();
    let late = daemon.connect("goes");
    let end = Instant::now() + DEADLINE;
    // If it takes too long to see that it is there, it is refused already, and nothing is tried.
    while daemon.descriptors() == before && daemon.count(Event::Refused) == 0 {
        assert!(Instant::now() < end, "nobody comes");
    }
    daemon.signal(Signal::SIGSTOP);
    let pid = Pid::from_raw(daemon.pid() as i32);
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("it is our child");
    assert_eq!(stopped, WaitStatus::Stopped(pid, Signal::SIGSTOP));
    late.send(Frame::Hello(Hello { resume: Some(old.session()), nonce: 1, ..Hello::new(0) }).to_vec());
    daemon.setup().write_config(&(stays + rest));
    daemon.signal(Signal::SIGHUP);
    daemon.signal(Signal::SIGCONT);
    // Where it was heard before the reload was, it got in, and is told of that; but it never stands there unheard.
    let rest = late.read_until_eof().escape_ascii().to_string();
    assert!(rest.contains("max_endpoints") || rest.contains("listener_removed"), "{rest}");
}

/// Strangers at the door get nowhere: with a session of somebody else and without its secret, byte by byte, with their side
/// closed, as a crowd; those who are inside do not notice.
#[test]
fn strangers_at_the_door_stay_outside() {
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
