//! What is sent is what arrives: all bytes, on every transport and protocol, wherever the stream is cut.

use upcall_wire::frame::{Frame, Hello, Send};

use super::{DATA, NAMES, everywhere, lab};
use crate::support::{Native, Place, Received};

/// Every value, and none of them a newline at the end.
fn all_bytes() -> Vec<u8> {
    (0..=255).rev().collect()
}

#[test]
fn b7_native_to_native() {
    let daemon = everywhere("");
    let mut all: Vec<Native> = NAMES.iter().map(|name| Native::join(&daemon, name)).collect();
    for native in &mut all {
        native.send_confirmed("topic ä", all_bytes());
    }
    for native in &mut all {
        for _ in NAMES {
            let upcall = native.upcall();
            assert_eq!((&upcall.topic[..], upcall.payload), ("topic ä", all_bytes()));
        }
    }
}

#[test]
fn b7_native_to_text() {
    let daemon = everywhere(DATA);
    let streams = ["tcp", "unix"].map(|name| {
        let stream = daemon.join(name);
        stream.send("\n");
        stream.expect("\n");
        stream
    });
    // The second of the streams has sent a line, too.
    streams[0].expect("\n");
    let datagrams = ["udp", "unix-datagram"].map(|name| daemon.join_datagram(name));
    for name in NAMES {
        let mut native = Native::join(&daemon, name);
        native.send_confirmed("", all_bytes());
        native.send_confirmed("", "with its own newline\n");
        native.send_frame(&Frame::Bye(""));
        native.rest();
        for stream in &streams {
            stream.expect([&all_bytes()[..], b"\nwith its own newline\n"].concat());
        }
        for datagram in &datagrams {
            datagram.expect([&all_bytes()[..], b"\n"].concat());
            datagram.expect("with its own newline\n");
        }
    }
}

#[test]
fn b7_text_to_native() {
    // Text that holds a newline in the middle is two messages on a stream in line mode, so it goes through chunk mode.
    let config = Place::Tcp.listener("chunk", "framing = \"chunk\"")
        + &Place::UnixPath.listener("unix-chunk", "framing = \"chunk\"")
        + &Place::Udp.listener("datagrams", "")
        + &Place::DatagramAbstract.listener("unix-datagrams", "")
        + &NAMES.iter().zip(Place::EACH).map(|(name, place)| super::auto(place, name, "")).collect::<String>();
    let daemon = crate::support::Daemon::start(&config);
    let mut all: Vec<Native> = NAMES.iter().map(|name| Native::join(&daemon, name)).collect();
    let bytes = all_bytes();
    for name in ["chunk", "unix-chunk"] {
        daemon.connect(name).send(&bytes);
        for native in &mut all {
            // A chunk ends at a newline, too.
            let mut got = native.upcall().payload;
            while got.len() < bytes.len() {
                got.extend(native.upcall().payload);
            }
            assert_eq!(got, bytes);
        }
    }
    for name in ["datagrams", "unix-datagrams"] {
        daemon.datagram(name).send(&bytes);
        for native in &mut all {
            assert_eq!(native.upcall().payload, bytes);
        }
    }
}

/// B8: a dialogue that is cut in two at every byte has the same answers.
#[test]
fn b8_a_stream_is_split_at_every_byte() {
    for place in [Place::Tcp, Place::UnixPath] {
        let daemon = lab(place, "", "");
        let send = |id, payload: &'static [u8]| Frame::Send(Send { id, receipt: true, topic: "t", payload }).to_vec();
        let dialogue = [
            Frame::Hello(Hello { name: "split", filters: vec!["nothing"], ..Hello::new(9) }).to_vec(),
            send(1, b"one"),
            Frame::Skippable(0xc9).to_vec(),
            send(2, b""),
            Frame::Ping { nonce: 5, cookie: None }.to_vec(),
            Frame::Bye("").to_vec(),
        ]
        .concat();
        let answer = |cut: usize| {
            let stream = daemon.join("lab");
            stream.send(&dialogue[..cut]);
            if cut >= 8 {
                // The first part is read by itself, because the answer to another message is behind it.
                Native::join(&daemon, "lab").so_far();
            }
            stream.send(&dialogue[cut..]);
            let mut bytes = &stream.read_until_eof()[..];
            let mut item = Vec::new();
            while !bytes.is_empty() {
                item.push(match Frame::take(&mut bytes).expect("frames") {
                    Frame::Receipt(receipt) => format!("receipt {} {}", receipt.id, receipt.due),
                    Frame::Welcome(welcome) => format!("welcome {} {}", welcome.nonce, welcome.last_message),
                    other => format!("{other:?}"),
                });
            }
            item
        };
        let whole = answer(0);
        assert_eq!(whole[1..], ["receipt 1 0", "receipt 2 0", "Pong { nonce: 5 }", "Bye(\"closed\")"]);
        for cut in 1..dialogue.len() {
            let without_due = |item: Vec<String>| -> Vec<String> {
                item.into_iter().map(|item| item.trim_end_matches(|last: char| last.is_ascii_digit()).into()).collect()
            };
            assert_eq!(without_due(answer(cut)), without_due(whole.clone()), "cut at {cut}");
        }
    }
}

/// B9: whatever a mutated stream causes, the daemon goes on, and the other endpoints lose nothing.
#[test]
fn b9_mutated_streams() {
    mutated(1_500);
}

#[test]
#[ignore = "slow: 40,000 connections"]
fn b9_mutated_streams_at_length() {
    mutated(10_000);
}

fn mutated(count: usize) {
    let mut random = fastrand::Rng::with_seed(9);
    for place in Place::EACH {
        let mut daemon = lab(place, "", "");
        let mut witness = Native::join(&daemon, "lab");
        let mut datagrams = Native::join(&daemon, "lab");
        let mut appended = 0;
        for round in 0..count {
            let first = Frame::Send(Send { id: 1, receipt: true, topic: "a", payload: b"whole" }).to_vec();
            let mut rest = [
                Frame::Send(Send { id: 2, receipt: true, topic: "b", payload: b"mutated" }).to_vec(),
                Frame::Subscribe(upcall_wire::frame::Filters { request: 1, filters: vec!["a", "b*"] }).to_vec(),
                Frame::Ping { nonce: 1, cookie: None }.to_vec(),
                Frame::Bye("").to_vec(),
            ]
            .concat();
            for _ in 0..random.usize(1..5) {
                let at = random.usize(..rest.len());
                rest[at] = random.u8(..);
            }
            if place.is_datagram() {
                if round % 100 == 0 {
                    datagrams = Native::join(&daemon, "lab");
                }
                datagrams.message += 1;
                let id = datagrams.message;
                let first = Frame::Send(Send { id, receipt: true, topic: "a", payload: b"whole" }).to_vec();
                datagrams.frames(&[first, rest].concat());
                datagrams.pump(std::time::Duration::ZERO);
                datagrams.inbox.received.clear();
            } else {
                let stream = daemon.join("lab");
                stream.send([Frame::Hello(Hello::new(1)).to_vec(), first, rest].concat());
                stream.finish();
                stream.read_until_eof();
            }
            appended += 1;
            while witness.pump(std::time::Duration::ZERO) {}
        }
        // On datagrams a mutation may have used up ids, or ended the session: then only what follows is counted.
        let whole = |item: &Received| matches!(item, Received::Upcall(upcall) if upcall.payload == b"whole");
        let end = witness.so_far();
        let got = end.iter().filter(|item| whole(item)).count();
        if !place.is_datagram() {
            assert_eq!(got, appended, "the frame before the mistake counts, each time");
        }
        assert!(got > 0 && daemon.is_running());
    }
}

/// Messages without a receipt are handled many at a time. The result is the same with other frames between them, and
/// wherever the stream is cut.
#[test]
fn messages_in_runs() {
    const MESSAGES: u64 = 3_000;
    for place in [Place::Tcp, Place::UnixPath] {
        let daemon = lab(place, "", DATA);
        let (mut native, text) = (Native::join(&daemon, "lab"), daemon.join("lab"));
        text.send("I speak text\n");
        text.expect("I speak text\n");
        assert_eq!(native.upcall().payload, b"I speak text\n");
        let payload = |id: u64| format!("{id}:{}", "x".repeat((id * 37 % 180) as usize)).into_bytes();
        let wants_receipt = |id: u64| id % 41 == 3;
        let send = |id| {
            let topic = if id % 97 == 5 { "t" } else { "" };
            Frame::Send(Send { id, receipt: wants_receipt(id), topic, payload: &payload(id) }).to_vec()
        };
        let role = Hello { role: upcall_wire::frame::Role::SendOnly, ..Hello::new(1) };
        let all =
            std::iter::once(Frame::Hello(role).to_vec()).chain((1..=MESSAGES).map(send)).collect::<Vec<_>>().concat();
        let sender = daemon.join("lab");
        let mut rest = &all[..];
        for cut in (1..).map(|nth| nth * 7_919 % 6_007) {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            sender.send(now);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        sender.send(Frame::Bye("").to_vec());
        for id in 1..=MESSAGES {
            let upcall = native.upcall();
            assert_eq!((upcall.sequence, upcall.payload), (id + 1, payload(id)));
            assert_eq!(upcall.topic, if id % 97 == 5 { "t" } else { "" });
            text.expect([&payload(id)[..], b"\n"].concat());
        }
        let answers = sender.read_until_eof();
        let mut answers = &answers[..];
        let mut receipts = Vec::new();
        while !answers.is_empty() {
            match Frame::take(&mut answers).expect("frames") {
                Frame::Receipt(receipt) => receipts.push((receipt.id, receipt.sequence, receipt.due)),
                Frame::Welcome(_) | Frame::Bye(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let expected: Vec<_> = (1..=MESSAGES).filter(|id| wants_receipt(*id)).map(|id| (id, id + 1, 2)).collect();
        assert_eq!(receipts, expected);
    }
}
