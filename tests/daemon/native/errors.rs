//! Every ERROR, and what happens to the client that gets it.

use std::time::Instant;

use upcall_wire::frame::{Code, Filters, Frame, Hello, Resume, Send, flag, kind};

use super::{auto, broken, lab};
use crate::support::{Daemon, Event, Native, Place, Received, figure, over};

over!(each:
    mistakes_of_registered_endpoints,
    mistakes_that_end_nothing,
    what_may_be_ignored_is_ignored,
    hellos_that_are_refused,
    frames_before_a_mistake_count,
    b12_everything_due_still_arrives,
);

/// A frame with this header, and a body.
fn frame(kind: u8, flags: u8, topic: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, kind, flags, topic];
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Frames that no registered endpoint may send, with what the ERROR contains.
fn mistakes() -> Vec<(&'static str, Vec<u8>, Code, u8, u64)> {
    let one = 1u64.to_be_bytes();
    vec![
        ("no NUL", b"hello there".to_vec(), Code::Malformed, 0, 0),
        ("too short", frame(kind::PING, 0, 0, &[1]), Code::Malformed, kind::PING, 0),
        ("too long", frame(kind::PONG, 0, 0, &[0; 9]), Code::Malformed, kind::PONG, 0),
        ("topic length", frame(kind::PING, 0, 1, &one), Code::Malformed, kind::PING, 0),
        ("no filter", frame(kind::SUBSCRIBE, 0, 0, &[0, 0, 0, 1]), Code::Malformed, kind::SUBSCRIBE, 1),
        ("a long reason", frame(kind::BYE, 0, 0, &[b'x'; 65]), Code::Malformed, kind::BYE, 0),
        ("an unknown kind", frame(0x3f, 0, 0, &[]), Code::UnknownKind, 0x3f, 0),
        ("REPLY", frame(kind::REPLY, 0, 0, &[]), Code::UnknownKind, kind::REPLY, 0),
        ("a kind below 0xc0", frame(0xbf, 0, 0, &[]), Code::UnknownKind, 0xbf, 0),
        ("an unknown flag", frame(kind::SEND, 0x02, 0, &one), Code::UnknownFlag, kind::SEND, 0),
        ("no flag of this kind", frame(kind::PING, flag::RECEIPT, 0, &one), Code::UnknownFlag, kind::PING, 0),
        ("a second HELLO", Frame::Hello(Hello::new(77)).to_vec(), Code::Unexpected, kind::HELLO, 77),
        ("the wrong direction", Frame::Retry { nonce: 5, cookie: 6 }.to_vec(), Code::Unexpected, kind::RETRY, 5),
        (
            "the daemon's",
            Frame::Pong { nonce: 1 }.to_vec().splice(1..2, [kind::GAP]).collect(),
            Code::Malformed,
            kind::GAP,
            0,
        ),
    ]
}

/// A stream ends behind a fatal ERROR; over datagrams everything goes on.
fn mistakes_of_registered_endpoints(place: Place) {
    let daemon = lab(place, "", "");
    let mut witness = Native::join(&daemon, "lab");
    let mut wrong = mistakes();
    wrong.pop();
    for (what, bytes, code, about, reference) in wrong {
        let mut native = Native::join(&daemon, "lab");
        native.frames(&bytes);
        if place.is_datagram() && matches!(about, kind::PONG | kind::BYE | kind::WELCOME..=kind::ERROR) {
            assert!(native.so_far().is_empty(), "{what}: it could be an answer, and those are not answered");
        } else {
            assert_eq!(native.error(), (code, about, reference), "{what}");
        }
        if place.is_datagram() {
            native.send_confirmed("", what);
        } else {
            assert_eq!(native.rest(), broken(), "{what}: the stream ends behind it");
            let session = native.session();
            let mut native = Native::connect(&daemon.url("lab"));
            assert!(native.register(&Hello { resume: Some(session), ..Hello::new(0) }).resumed, "{what}");
            native.send_confirmed("", what);
        }
        assert_eq!(witness.upcall().payload, what.as_bytes());
    }
}

fn mistakes_that_end_nothing(place: Place) {
    let daemon = lab(place, "", "[upcall]\nmax_message = \"1000B\"\n");
    let mut native = Native::join(&daemon, "lab");
    let long = "x".repeat(129);
    for (id, topic) in ["a*", "*", "\u{85}", &long[..]].into_iter().enumerate() {
        native.send(topic, "bad");
        assert_eq!(native.error(), (Code::BadTopic, kind::SEND, id as u64 + 1), "{topic:?}");
    }
    assert_eq!(native.send_confirmed("", "5").0, 1, "those ids are used up");
    native.send_again(2, "", b"good");
    assert_eq!(native.error(), (Code::BadTopic, kind::SEND, 2), "refused is refused");
    assert_eq!(native.send_confirmed("", vec![b'x'; 1000]).0, 2);
    native.send("", vec![b'x'; 1001]);
    assert_eq!(native.error(), (Code::TooLarge, kind::SEND, 7));
    if place.is_datagram() {
        assert_eq!(native.send_confirmed("", "8").0, 3);
    } else {
        let upcalls = native.rest();
        let upcalls = upcalls.strip_suffix(&broken()).expect("the stream ends");
        assert!(upcalls.iter().all(|item| matches!(item, Received::Upcall(_))), "{upcalls:?}");
        let mut again = native.resume(&daemon.url("lab"));
        assert_eq!(again.welcome().last_message, 7, "used up");
        assert_eq!(again.send_confirmed("", "8").0, 3);
    }
}

/// Kinds from 0xc0 on, flags that are not critical, options from 0x80 on.
fn what_may_be_ignored_is_ignored(place: Place) {
    let daemon = lab(place, "", "");
    let mut native = Native::connect(&daemon.url("lab"));
    native.register(&Hello::new(0));
    native.frames(&frame(0xc0, 0xff, 9, b"whatever"));
    native.frames(&frame(0xff, 0, 0, &[]));
    let send = Frame::Send(Send { id: 1, receipt: true, topic: "", payload: b"flagged" }).to_vec();
    let mut flagged = send.clone();
    flagged[2] |= 0xf0;
    native.frames(&flagged);
    assert!(
        matches!(native.take(|item| matches!(item, Received::Receipt(_))), Received::Receipt(receipt) if receipt.id == 1)
    );
    assert_eq!(native.upcall().payload, b"flagged");
    let other = Native::connect(&daemon.url("lab"));
    let mut hello = Frame::Hello(Hello { padding: 16, ..Hello::new(78) }).to_vec();
    hello.extend([0x80, 0, 0, 2, 1, 2, 0xff, 0, 0, 0]);
    hello[7] += 10;
    other.raw(&hello);
    daemon.wait_count(Event::NativeHello, 2);
}

/// HELLOs that are refused: what the answer is, and that no endpoint was registered.
fn hellos_that_are_refused(place: Place) {
    let daemon = lab(place, "max_endpoints = 1", "");
    let padding = [7, 0, 0, 0];
    let hello = |first: &[u8; 4], rest: &[u8]| {
        frame(kind::HELLO, 0, 0, &[&first[..], &99u64.to_be_bytes(), &padding, rest].concat())
    };
    let version = |lowest, highest| hello(&[lowest, highest, 0, 0], &[]);
    let cases = [
        ("a later version", version(2, 3), Code::Version),
        ("a later version, with an option of its own", hello(&[2, 3, 0, 0], &[9, 0, 0, 0]), Code::Version),
        ("version 0", version(0, 0), Code::Version),
        ("no range", version(2, 1), Code::Malformed),
        ("no such role", hello(&[1, 1, 3, 0], &[]), Code::Malformed),
        ("an option", hello(&[1, 1, 0, 0], &[8, 0, 0, 0]), Code::Malformed),
        ("an empty name", hello(&[1, 1, 0, 0], &[1, 0, 0, 0]), Code::Malformed),
        ("an option that is cut off", hello(&[1, 1, 0, 0], &[1, 0, 0, 9, b'x']), Code::Malformed),
        ("a filter", hello(&[1, 1, 0, 0], &[3, 0, 0, 1, 7]), Code::BadTopic),
    ];
    for (what, bytes, code) in cases {
        let mut native = Native::connect(&daemon.url("lab"));
        native.inbox.begin(99);
        native.raw(&bytes);
        assert_eq!(native.error(), (code, kind::HELLO, 99), "{what}");
        if !place.is_datagram() && code.is_fatal() {
            assert_eq!(native.rest(), broken(), "{what}");
        } else {
            native.register(&Hello::new(0));
            native.send_frame(&Frame::Bye(""));
            native.rest();
        }
        let gone = if place.is_datagram() { 0 } else { 1 };
        daemon.wait_count(Event::Left, gone);
    }
    let session = Native::join(&daemon, "lab");
    let guess = Resume { secret: [7; 16], ..session.session() };
    let mut other = Native::connect(&daemon.url("lab"));
    match other.hello(&Hello { resume: Some(guess), ..Hello::new(0) }) {
        // A stream is refused before it sends anything.
        Received::End(text) => assert_eq!(text, "upcalld: listener_max_endpoints\n"),
        Received::Error { code: Code::Refused, text, .. } => assert_eq!(text, "listener_max_endpoints"),
        other => panic!("{other:?}"),
    }
}

fn frames_before_a_mistake_count(place: Place) {
    let daemon = lab(place, "", "");
    let mut native = Native::join(&daemon, "lab");
    let mut witness = Native::join(&daemon, "lab");
    let send = |id| Frame::Send(Send { id, receipt: true, topic: "", payload: b"x" }).to_vec();
    native.frames(&[send(1), send(2), frame(0x3f, 0, 0, &[]), send(3)].concat());
    native.error();
    assert_eq!((witness.upcall().sequence, witness.upcall().sequence), (1, 2));
    assert!(witness.so_far().is_empty(), "what is behind it does not count");
}

/// B12: a client shuts its side down, or sends BYE, while much is still due to it.
fn b12_everything_due_still_arrives(place: Place) {
    let daemon = lab(place, "", "");
    for by_bye in [false, true] {
        if place.is_datagram() && !by_bye {
            continue;
        }
        let mut native = Native::join(&daemon, "lab");
        let mut sender = Native::join(&daemon, "lab");
        let payload = vec![b'x'; 1000];
        for _ in 0..500 {
            sender.send_confirmed("", &payload);
            while sender.pump(std::time::Duration::ZERO) {}
        }
        let last = native.send("", "the last");
        if place.is_datagram() {
            // BYE ends a datagram session at once, so the client sends it when it has received everything.
            native.take(|item| matches!(item, Received::Receipt(receipt) if receipt.id == last));
            native.take(|item| matches!(item, Received::Upcall(upcall) if upcall.payload == b"the last"));
            native.send_frame(&Frame::Bye(""));
            continue;
        }
        match &native.link {
            crate::support::Link::Stream(stream) if !by_bye => stream.finish(),
            _ => native.send_frame(&Frame::Bye("")),
        }
        let rest = native.rest();
        let upcalls = rest.iter().filter(|item| matches!(item, Received::Upcall(_))).count();
        assert_eq!(upcalls, 501, "all of it, the last of its own included");
        assert_eq!(rest[rest.len() - 2..], [Received::Bye("closed".into()), Received::End(String::new())]);
    }
}

/// On a stream, what only datagrams have; and anything but HELLO at first.
#[test]
fn what_is_unexpected_on_streams() {
    for place in [Place::Tcp, Place::UnixPath] {
        let daemon = lab(place, "", "");
        let ack = Frame::Ack(upcall_wire::frame::Ack { largest: 1, bitmap: 0 });
        let moves = Frame::Ping { nonce: 3, cookie: Some(4) };
        for (frame, reference) in [(ack, 0), (moves, 3)] {
            let mut native = Native::join(&daemon, "lab");
            native.send_frame(&frame);
            assert_eq!(native.error(), (Code::Unexpected, frame.kind(), reference));
            assert_eq!(native.rest(), broken());
        }
        let send = Frame::Send(Send { id: 8, receipt: true, topic: "", payload: b"x" });
        let subscribe = Frame::Subscribe(Filters { request: 9, filters: vec!["x"] });
        let first = [(send, 8), (subscribe, 9), (Frame::Ping { nonce: 5, cookie: None }, 5), (Frame::Bye(""), 0)];
        for (frame, reference) in first {
            let mut native = Native::connect(&daemon.url("lab"));
            native.send_frame(&frame);
            assert_eq!(native.error(), (Code::Unexpected, frame.kind(), reference));
            assert_eq!(native.rest(), broken());
        }
    }
}

/// A session that does not exist is no reason to end a stream: another HELLO may follow.
#[test]
fn another_hello_may_follow() {
    for place in Place::EACH {
        let daemon = lab(place, "", "");
        let mut native = Native::connect(&daemon.url("lab"));
        let resume = Some(Resume { id: 1, secret: [1; 16], last: 0 });
        let answer = native.hello(&Hello { resume, ..Hello::new(0) });
        assert!(matches!(answer, Received::Error { code: Code::UnknownSession, reference: 1.., .. }), "{answer:?}");
        assert!(!native.register(&Hello::new(0)).resumed);
        assert_eq!(native.send_confirmed("", "x"), (1, 0));
    }
}

/// B1: a frame that claims 4 GiB.
#[test]
fn b1_a_frame_that_claims_four_gigabytes() {
    let daemon = lab(Place::Tcp, "", "");
    let before = daemon.memory();
    let mut times = Vec::new();
    for kind in [kind::HELLO, kind::SEND, kind::BYE, 0xff] {
        let mut native = Native::connect(&daemon.url("lab"));
        if kind != kind::HELLO {
            native.register(&Hello::new(0));
        }
        let begin = Instant::now();
        native.raw(&[0, kind, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(native.error(), (Code::TooLarge, kind, 0));
        assert_eq!(native.rest(), broken());
        times.push(begin.elapsed());
    }
    let grown = daemon.memory().saturating_sub(before);
    figure("b1", &format!("closed after {times:?}, {grown} bytes more"));
    assert!(grown < 1 << 20, "{grown} bytes more");
}

/// Over Unix datagrams, too, a frame is no longer than it may be.
#[test]
fn control_frames_are_limited_over() {
    let daemon = Daemon::start(&auto(Place::DatagramAbstract, "lab", ""));
    let mut native = Native::join(&daemon, "lab");
    let filters: Vec<u8> = [&1u32.to_be_bytes()[..], &[1, b'x'].repeat(9000)].concat();
    native.frames(&frame(kind::SUBSCRIBE, 0, 0, &filters));
    assert_eq!(native.error(), (Code::TooLarge, kind::SUBSCRIBE, 0));
}
