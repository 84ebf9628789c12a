//! Sessions: resumed where they were, by their owners only.

use nix::sys::signal::Signal;
use upcall_wire::frame::{Code, Filters, Frame, Gap, GapReason, Hello, Resume, Role, kind};

use super::{auto, lab};
use crate::support::{Daemon, Event, Native, Place, Received, over};

over!(each:
    f18_what_was_missed_is_replayed,
    f18_what_the_ring_does_not_hold_is_a_gap,
    f19_killed_in_the_middle,
    s18_strangers_do_not_resume,
    s18_no_session_resumes_before_its_start,
    a_resume_over_a_live_connection,
    a_session_ends_in_time,
    a_session_keeps_filters_role_and_ids,
    a_session_goes_to_any_listener,
    a_farewell_without_acknowledgements_when_the_listener_is_removed,
    a_farewell_without_acknowledgements_at_the_end,
);

const SMALL: &str =
    "[log]\nsize = \"1MiB\"\n[slow_consumer]\nmax_behind = \"512KiB\"\n[upcall]\nmax_message = \"4KiB\"\n";

/// What is left of a client that has vanished.
struct Gone {
    session: Resume,
    message: u64,
    request: u32,
}

/// Ends the client without a BYE, and waits until the daemon has noticed.
fn vanish(daemon: &Daemon, native: Native) -> Gone {
    let ended = daemon.count(Event::Left);
    let gone = Gone { session: native.session(), message: native.message, request: native.request };
    let is_stream = matches!(native.link, crate::support::Link::Stream(_));
    drop(native);
    if is_stream {
        daemon.wait_count(Event::Left, ended + 1);
    }
    gone
}

impl Gone {
    fn back(&self, daemon: &Daemon) -> Native {
        self.back_as(daemon, &Hello::new(0))
    }

    fn back_as(&self, daemon: &Daemon, hello: &Hello<'_>) -> Native {
        let mut native = Native::connect(&daemon.url("lab"));
        native.register(&Hello { resume: Some(self.session), ..hello.clone() });
        (native.message, native.request) = (self.message, self.request);
        native
    }
}

fn f18_what_was_missed_is_replayed(place: Place) {
    let daemon = lab(place, "", "");
    let mut native = Native::join(&daemon, "lab");
    let mut sender = Native::join_as(&daemon, "lab", &Hello { role: Role::SendOnly, ..Hello::new(0) });
    sender.send_confirmed("", "0");
    assert_eq!(native.upcall().payload, b"0");
    let gone = vanish(&daemon, native);
    for number in 1..=1000 {
        sender.send_confirmed("", format!("{number}"));
    }
    let mut native = gone.back(&daemon);
    let welcome = native.welcome();
    assert_eq!((welcome.resumed, welcome.start, welcome.next), (true, 2, 1002));
    sender.send_confirmed("", "1001");
    for number in 1..=1001 {
        assert_eq!(native.upcall().payload, format!("{number}").as_bytes());
    }
    assert!(native.so_far().is_empty());
}

fn f18_what_the_ring_does_not_hold_is_a_gap(place: Place) {
    let daemon = lab(place, "", SMALL);
    let mut native = Native::join(&daemon, "lab");
    let mut sender = Native::join_as(&daemon, "lab", &Hello { role: Role::SendOnly, ..Hello::new(0) });
    sender.send_confirmed("", "0");
    native.upcall();
    let gone = vanish(&daemon, native);
    for number in 1..=1000 {
        sender.send_confirmed("", format!("{number:02000}"));
    }
    let mut native = gone.back(&daemon);
    assert_eq!(native.welcome().start, 2);
    let Received::Gap(gap) = native.take(|item| matches!(item, Received::Gap(_) | Received::Upcall(_))) else {
        panic!("no gap")
    };
    let Gap { first, last, reason } = gap;
    assert!(first == 2 && (400..600).contains(&last) && reason == GapReason::Evicted, "{gap:?}");
    for sequence in last + 1..=1001 {
        assert_eq!(native.upcall().payload, format!("{:02000}", sequence - 1).as_bytes());
    }
    assert!(native.so_far().is_empty());
}

/// F19: in the middle of a frame; and with SENDs of which no receipt was seen.
fn f19_killed_in_the_middle(place: Place) {
    let daemon = lab(place, "", "");
    let mut witness = Native::join(&daemon, "lab");
    let mut native = Native::join(&daemon, "lab");
    for round in 0..20u64 {
        // Two complete ones, whose receipts are not read, and one that is truncated.
        let truncated = Frame::Send(upcall_wire::frame::Send {
            id: native.message + 3,
            receipt: true,
            topic: "",
            payload: b"truncated",
        });
        native.send("", format!("{round} a"));
        native.send("", format!("{round} b"));
        native.frames(&truncated.to_vec()[..10 + round as usize % 10]);
        let sent = native.message;
        assert_eq!(witness.upcall().payload, format!("{round} a").as_bytes());
        assert_eq!(witness.upcall().payload, format!("{round} b").as_bytes());
        native = vanish(&daemon, native).back(&daemon);
        assert_eq!(native.welcome().last_message, sent);
        for (id, text) in [(sent - 1, "a"), (sent, "b")] {
            native.send_again(id, "", format!("{round} {text}").as_bytes());
            let receipt = native.take(|item| matches!(item, Received::Receipt(_)));
            assert!(matches!(receipt, Received::Receipt(receipt) if receipt.id == id && receipt.repeat), "{receipt:?}");
        }
        native.inbox.received.clear();
    }
    assert!(witness.so_far().is_empty(), "nothing was appended twice");
}

#[track_caller]
fn refused(daemon: &Daemon, listener: &str, resume: Resume, with: Code) {
    let mut other = Native::connect(&daemon.url(listener));
    let answer = other.hello(&Hello { resume: Some(resume), ..Hello::new(0) });
    assert!(matches!(answer, Received::Error { code, .. } if code == with), "{answer:?}");
}

/// S18
fn s18_strangers_do_not_resume(place: Place) {
    let daemon = lab(place, "", "");
    let mut one = Native::join(&daemon, "lab");
    let mut other = Native::join(&daemon, "lab");
    let mut ended = Native::join(&daemon, "lab");
    let (mine, theirs, gone) = (one.session(), other.session(), ended.session());
    ended.send_frame(&Frame::Bye(""));
    ended.rest();
    let detached = Native::join(&daemon, "lab");
    let away = vanish(&daemon, detached).session;
    for target in [mine, away] {
        for secret in [theirs.secret, gone.secret, [0; 16]] {
            refused(&daemon, "lab", Resume { secret, ..target }, Code::UnknownSession);
        }
        for byte in 0..16 {
            let mut secret = target.secret;
            secret[byte] ^= 1 << (byte % 8);
            refused(&daemon, "lab", Resume { secret, ..target }, Code::UnknownSession);
        }
    }
    refused(&daemon, "lab", Resume { id: mine.id, ..theirs }, Code::UnknownSession);
    refused(&daemon, "lab", Resume { id: 1 << 47, ..theirs }, Code::UnknownSession);
    refused(&daemon, "lab", gone, Code::UnknownSession);
    // The sessions are unchanged.
    assert_eq!(one.send_confirmed("", "x").1, if place.is_datagram() { 2 } else { 1 });
    assert_eq!((one.upcall().payload, other.upcall().payload), (b"x".to_vec(), b"x".to_vec()));
}

/// S18: resuming a session does not give access to what was sent before it began.
fn s18_no_session_resumes_before_its_start(place: Place) {
    let daemon = lab(place, "", "");
    let mut early = Native::join(&daemon, "lab");
    for _ in 0..10 {
        early.send_confirmed("", "secret");
    }
    let native = Native::join(&daemon, "lab");
    assert_eq!(native.welcome().start, 11);
    let session = native.session();
    for last in [0, 5, 9, 11, u64::MAX] {
        refused(&daemon, "lab", Resume { last, ..session }, Code::Malformed);
    }
    let gone = vanish(&daemon, native);
    for last in [0, 5, 9, 11, u64::MAX] {
        refused(&daemon, "lab", Resume { last, ..session }, Code::Malformed);
    }
    // The session is still there for a client that asks from its real position.
    let mut native = gone.back(&daemon);
    assert_eq!(native.welcome().start, 11);
    early.send_confirmed("", "open");
    assert_eq!(native.upcall().payload, b"open");
}

fn a_resume_over_a_live_connection(place: Place) {
    let daemon = lab(place, "", "");
    let mut sender = Native::join(&daemon, "lab");
    let mut old = Native::join(&daemon, "lab");
    sender.send_confirmed("", "1");
    assert_eq!(old.upcall().payload, b"1");
    let mut new = old.resume(&daemon.url("lab"));
    let rest = old.rest();
    assert!(rest.contains(&Received::Bye("superseded".into())), "{rest:?}");
    assert_eq!(sender.send_confirmed("", "2").1, 1, "it counts once");
    assert_eq!(new.upcall().payload, b"2");
    assert_eq!(new.send_confirmed("", "3"), (3, 1));
    // The old connection is not registered any more.
    if place.is_datagram() {
        old.send("", "from the past");
        assert!(matches!(sender.so_far().pop_back(), Some(Received::Upcall(upcall)) if upcall.payload == b"3"));
    }
    daemon.wait(Event::Left.reason("superseded"));
}

/// A source that leaves more detached sessions than it may have endpoints loses its own oldest ones.
#[test]
fn a_source_has_no_more_sessions_than_endpoints() {
    for place in [Place::Tcp, Place::UnixPath] {
        let daemon = lab(place, "max_per_source = 2", "");
        let gone: Vec<Gone> = (0..3).map(|_| vanish(&daemon, Native::join(&daemon, "lab"))).collect();
        refused(&daemon, "lab", gone[0].session, Code::UnknownSession);
        assert!(gone[1].back(&daemon).welcome().resumed && gone[2].back(&daemon).welcome().resumed);
    }
}

fn a_session_ends_in_time(place: Place) {
    let daemon = lab(place, "", "[registry]\nsession_ttl = \"1s\"\nlease = \"1s\"\n");
    let native = Native::join(&daemon, "lab");
    let session = native.session();
    drop(native);
    daemon.wait(Event::Left);
    // With the right secret and an impossible position, the answer tells whether the session is still there.
    let until = std::time::Instant::now() + crate::support::DEADLINE;
    loop {
        let resume = Some(Resume { last: u64::MAX, ..session });
        match Native::connect(&daemon.url("lab")).hello(&Hello { resume, ..Hello::new(0) }) {
            Received::Error { code: Code::Malformed, .. } => {}
            Received::Error { code: Code::UnknownSession, .. } => break,
            other => panic!("{other:?}"),
        }
        assert!(std::time::Instant::now() < until, "the session stays");
    }
    refused(&daemon, "lab", session, Code::UnknownSession);
}

/// Filters, role, message and request ids.
fn a_session_keeps_filters_role_and_ids(place: Place) {
    let daemon = lab(place, "", "");
    let mut sender = Native::join(&daemon, "lab");
    let hello = Hello { role: Role::ReceiveOnly, filters: vec!["a"], name: "keeper", ..Hello::new(0) };
    let mut native = Native::join_as(&daemon, "lab", &hello);
    assert_eq!(native.subscribe(true, &["b"]).1, ["a", "b"]);
    let gone = vanish(&daemon, native);
    for topic in ["a", "b", "c", "a"] {
        sender.send_confirmed(topic, topic);
    }
    // The filters and the name of this HELLO are ignored.
    let mut native = gone.back_as(&daemon, &Hello { filters: vec!["c"], name: "thief", ..Hello::new(0) });
    assert_eq!([(); 3].map(|()| native.upcall().sequence), [1, 2, 4]);
    native.send("", "no");
    assert_eq!(native.error().0, Code::NotPermitted);
    assert_eq!(native.subscribe(false, &["a"]).1, ["b"], "requests go on, too");
    native.send_frame(&Frame::Subscribe(Filters { request: 2, filters: vec!["c"] }));
    native.so_far();
    assert_eq!(daemon.count(Event::NativeHello.with("(thief)")), 0);
    daemon.wait_count(Event::NativeHello.with("(keeper)"), 2);
}

/// A session goes on at any listener that admits its client, and what that one allows counts; but what began on a Unix
/// socket stays on those, and what did not does not go there.
fn a_session_goes_to_any_listener(place: Place) {
    let (kin, stranger) = match place {
        Place::Tcp => (Place::Udp, Place::UnixPath),
        Place::Udp => (Place::Tcp, Place::DatagramAbstract),
        Place::UnixPath => (Place::DatagramAbstract, Place::Tcp),
        _ => (Place::UnixPath, Place::Udp),
    };
    let roles = auto(place, "in", "role = \"input\"") + &auto(place, "out", "role = \"output\"");
    let daemon =
        Daemon::start(&(auto(place, "lab", "") + &roles + &auto(kin, "kin", "") + &auto(stranger, "other", "")));
    let mut early = Native::join(&daemon, "lab");
    let mut native = Native::join(&daemon, "in");
    assert_eq!(native.send_confirmed("", "1"), (1, 1));
    early.send_confirmed("", "not for those who only send");
    refused(&daemon, "other", native.session(), Code::UnknownSession);
    let mut native = native.resume(&daemon.url("lab"));
    assert_eq!((native.welcome().start, native.welcome().last_message), (3, 1), "nothing was due to it");
    assert!(native.so_far().is_empty());
    early.send_confirmed("", "3");
    assert_eq!(native.upcall().payload, b"3");
    let mut native = native.resume(&daemon.url("out"));
    early.send_confirmed("", "4");
    assert_eq!(native.upcall().payload, b"4");
    native.send("", "no");
    assert_eq!(native.error(), (Code::NotPermitted, kind::SEND, 2));
    let mut native = native.resume(&daemon.url("kin"));
    early.send_confirmed("", "5");
    assert_eq!((native.upcall().payload, native.send_confirmed("", "6")), (b"5".to_vec(), (6, 1)));
    let gone = vanish(&daemon, native);
    refused(&daemon, "other", gone.session, Code::UnknownSession);
    assert!(gone.back(&daemon).welcome().resumed);
}

/// What was sent and not acknowledged can no longer be acknowledged. The client still gets the farewell, and resumes
/// elsewhere.
fn a_farewell_without_acknowledgements_when_the_listener_is_removed(place: Place) {
    let stays = auto(place, "other", "");
    let daemon = Daemon::start(&(auto(place, "lab", "") + &stays));
    let mut native = Native::join(&daemon, "lab");
    native.acknowledges = false;
    let mut sender = Native::join(&daemon, "other");
    sender.send_confirmed("", "unacknowledged");
    daemon.reload(&stays);
    let bye = native.take(|item| matches!(item, Received::Bye(_)));
    assert_eq!(bye, Received::Bye("listener_removed".into()));
    let back = native.resume(&daemon.url("other"));
    assert!(back.welcome().resumed);
}

/// What was sent and not acknowledged in time is given up. The client still gets the farewell.
fn a_farewell_without_acknowledgements_at_the_end(place: Place) {
    for at_once in [false, true] {
        let grace = if at_once { "1min" } else { "50ms" };
        let rest = format!("[daemon]\nshutdown_grace = \"{grace}\"\n");
        let mut daemon = lab(place, "", &rest);
        let mut native = Native::join(&daemon, "lab");
        native.acknowledges = false;
        Native::join(&daemon, "lab").send_confirmed("", "unacknowledged");
        assert_eq!(native.upcall().payload, b"unacknowledged");
        daemon.signal(Signal::SIGTERM);
        daemon.wait(Event::Draining);
        if at_once {
            daemon.signal(Signal::SIGTERM);
        }
        assert_eq!(native.take(|item| matches!(item, Received::Bye(_))), Received::Bye("shutdown".into()), "{grace}");
        assert_eq!(daemon.wait_exit().code(), Some(0));
    }
}
