//! Frames survive writing and parsing, every violation has its code, and the split of a stream into reads does not
//! matter.

use proptest::prelude::*;

use super::datagram::{Arrivals, Envelope};
use super::*;

const MAX: usize = 1000;

fn topic() -> impl Strategy<Value = String> {
    "([a-zäß/]{1,20})?"
}

fn filter() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z/]{1,20}", "[a-z/]{0,20}\\*"]
}

/// The bytes of any valid frame.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let filters = || prop::collection::vec(filter(), 1..5);
    let borrowed = |filters: &'static [String]| filters.iter().map(String::as_str).collect::<Vec<_>>();
    let leak = |filters: Vec<String>| -> &'static [String] { Box::leak(filters.into_boxed_slice()) };
    let payload = || prop::collection::vec(any::<u8>(), 0..MAX);
    prop_oneof![
        (any::<u64>(), any::<bool>(), topic(), payload()).prop_map(|(id, receipt, topic, payload)| {
            Frame::Send(Send { id, receipt, topic: &topic, payload: &payload }).to_vec()
        }),
        (any::<u64>(), 0..1u64 << 48, 0..1u64 << 48, any::<u32>(), topic(), payload()).prop_map(
            |(sequence, source, time, prev, topic, payload)| {
                Frame::Upcall(Upcall { sequence, source, time, prev, topic: &topic, payload: &payload }).to_vec()
            }
        ),
        (any::<u32>(), filters(), any::<bool>()).prop_map(move |(request, filters, add)| {
            let filters = Filters { request, filters: borrowed(leak(filters)) };
            if add { Frame::Subscribe(filters) } else { Frame::Unsubscribe(filters) }.to_vec()
        }),
        (any::<[u64; 4]>(), any::<[u8; 16]>(), filters(), any::<bool>(), 0usize..100).prop_map(
            move |([nonce, id, last, since], secret, filters, some, padding)| {
                let hello = Hello {
                    role: if some { Role::ReceiveOnly } else { Role::Both },
                    name: if some { "a name" } else { "" },
                    token: some.then_some(b"token"),
                    filters: borrowed(leak(filters)),
                    resume: some.then_some(Resume { id, secret, last }),
                    since: (!some).then_some(since),
                    cookie: some.then_some(since),
                    padding,
                    ..Hello::new(nonce)
                };
                Frame::Hello(hello).to_vec()
            }
        ),
        (any::<[u64; 8]>(), any::<[u8; 16]>(), any::<bool>()).prop_map(
            |([id, key, log, start, next, nonce, last_message, n], secret, resumed)| {
                let (lease, max_message) = (n as u32, (n >> 32) as u32);
                let welcome = Welcome {
                    version: VERSION,
                    resumed,
                    lease,
                    id,
                    secret,
                    key,
                    log,
                    start,
                    next,
                    nonce,
                    last_message,
                    max_message,
                };
                Frame::Welcome(welcome).to_vec()
            }
        ),
        any::<(u64, u64, u32, bool)>().prop_map(|(id, sequence, due, repeat)| Frame::Receipt(Receipt {
            id,
            sequence,
            due,
            repeat
        })
        .to_vec()),
        (1..u64::MAX, 0..1000u64).prop_map(|(first, more)| {
            Frame::Gap(Gap { first, last: first.saturating_add(more), reason: GapReason::Evicted }).to_vec()
        }),
        any::<(u64, u64)>().prop_map(|(largest, bitmap)| Frame::Ack(Ack { largest, bitmap }).to_vec()),
        any::<(u64, Option<u64>)>().prop_map(|(nonce, cookie)| Frame::Ping { nonce, cookie }.to_vec()),
        any::<u64>().prop_map(|nonce| Frame::Pong { nonce }.to_vec()),
        any::<(u64, u64)>().prop_map(|(nonce, cookie)| Frame::Retry { nonce, cookie }.to_vec()),
        "[a-z_]{0,64}".prop_map(|reason| Frame::Bye(&reason).to_vec()),
        (any::<(u32, u64)>(), filters()).prop_map(move |((request, from), filters)| {
            let filters = borrowed(leak(filters));
            Frame::Subscribed { request, from, everything: false, filters }.to_vec()
        }),
        (0..Code::ALL.len(), any::<u64>(), "[ -~]{0,40}").prop_map(|(code, reference, text)| {
            Frame::Error(ErrorFrame { code: Code::ALL[code], about: kind::SEND, reference, text: &text }).to_vec()
        }),
        (0xc0u8..).prop_map(|kind| Frame::Skippable(kind).to_vec()),
    ]
}

/// Decodes a stream from these reads: the frames as bytes, the violation at the end, whether a frame is incomplete.
fn decode(reads: &[&[u8]]) -> (Vec<Vec<u8>>, Option<Violation>, bool) {
    let mut decoder = FrameDecoder::default();
    let mut frames = Vec::new();
    for mut read in reads.iter().copied() {
        loop {
            match decoder.next(&mut read, MAX) {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => break,
                Err(violation) => return (frames, Some(violation), false),
            }
        }
    }
    (frames, None, decoder.is_unfinished())
}

fn code_of(bytes: &[u8]) -> Option<Code> {
    decode(&[bytes]).1.map(|violation| violation.code)
}

#[test]
fn an_upcall_costs_32_bytes() {
    let upcall = Upcall { sequence: 1, source: 2, time: 3, prev: 0, topic: "t", payload: b"p" };
    let mut bytes = Vec::new();
    upcall.write(&mut bytes);
    assert_eq!(bytes.len(), 32 + 2);
    assert_eq!(Upcall::topic_of(&bytes), b"t");
    Upcall::patch_prev(&mut bytes, (7 << 32) + 5);
    let Ok(Frame::Upcall(read)) = Frame::take(&mut &bytes[..]) else { panic!("not an upcall") };
    assert_eq!(read, Upcall { prev: 5, ..upcall });
}

#[test]
fn every_violation_has_a_code() {
    let send = Frame::Send(Send { id: 1, receipt: true, topic: "t", payload: b"p" }).to_vec();
    let with = |at: usize, byte: u8| {
        let mut bytes = send.clone();
        bytes[at] = byte;
        code_of(&bytes)
    };
    assert_eq!(with(0, 1), Some(Code::Malformed));
    assert_eq!(with(1, 0x7f), Some(Code::UnknownKind));
    assert_eq!(with(1, kind::REPLY), Some(Code::UnknownKind), "not yet");
    assert_eq!(with(1, kind::DATAGRAM), Some(Code::UnknownKind), "on a stream");
    assert_eq!(with(2, 0x02), Some(Code::UnknownFlag));
    assert_eq!(with(2, 0xf1), None, "flags that may be ignored");
    assert_eq!(with(3, 200), Some(Code::Malformed));
    assert_eq!(with(16, b'*'), Some(Code::BadTopic));
    let mut hello = Frame::Hello(Hello::new(7)).to_vec();
    hello[10] = 9;
    let refused = Frame::take(&mut &hello[..]).unwrap_err();
    assert_eq!((refused.code, refused.reference), (Code::Malformed, 7), "no such role; the error names the nonce");
    assert_eq!(code_of(&[0, kind::PING, 0, 1, 0, 0, 0, 8]), Some(Code::Malformed));
    assert_eq!(code_of(&[0, kind::PING, 0, 0, 0, 0, 0, 1, 7]), Some(Code::Malformed));
    assert_eq!(code_of(&[0, kind::SUBSCRIBE, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1]), Some(Code::Malformed));
}

#[test]
fn b1_a_frame_that_claims_too_much_is_refused_by_its_header() {
    for kind in [kind::HELLO, kind::SEND, kind::UPCALL, kind::BYE, 0xff] {
        let mut decoder = FrameDecoder::default();
        let header = [0, kind, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(decoder.next(&mut &header[..], MAX).unwrap_err().code, Code::TooLarge);
        assert!(decoder.carry.capacity() <= HEADER);
    }
    let exact = Frame::Send(Send { id: 1, receipt: false, topic: "", payload: &[0; MAX + 128] }).to_vec();
    assert_eq!(code_of(&exact), None, "the header allows for a topic; the engine checks the payload");
}

fn send(id: u64, receipt: bool, topic: &str, size: usize) -> Vec<u8> {
    Frame::Send(Send { id, receipt, topic, payload: &vec![id as u8; size] }).to_vec()
}

/// How many of these are taken as plain SENDs numbered from 7, and how many bytes are left.
fn plain_sends(frames: &[Vec<u8>]) -> (usize, usize) {
    let stream = frames.concat();
    let mut input = &stream[..];
    let mut decoder = FrameDecoder::default();
    let taken = decoder.sends(&mut input, 7, MAX).count();
    assert!(!decoder.is_unfinished() && stream.ends_with(input));
    (taken, input.len())
}

#[test]
fn plain_sends_are_taken_and_nothing_else() {
    let (a, b) = (send(7, false, "", 0), send(8, false, "", MAX));
    assert_eq!(plain_sends(&[a.clone(), b.clone()]), (2, 0));
    let others = [
        send(8, false, "", 3),
        send(10, false, "", 3),
        send(9, true, "", 3),
        send(9, false, "t", 3),
        send(9, false, "", MAX + 1),
        Frame::Ping { nonce: 9, cookie: None }.to_vec(),
        // A flag that may be ignored; too short for its id; no NUL; longer than it could ever be.
        vec![0, kind::SEND, 0x10, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9],
        vec![0, kind::SEND, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9],
        vec![1, kind::SEND, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9],
        vec![0, kind::SEND, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 9],
        vec![0xff; 32],
    ];
    for other in others {
        let left = other.len() + b.len();
        assert_eq!(plain_sends(&[a.clone(), b.clone(), other.clone(), b.clone()]), (2, left), "{other:?}");
    }
    let whole = send(9, false, "", 5);
    for cut in 0..whole.len() {
        assert_eq!(plain_sends(&[a.clone(), b.clone(), whole[..cut].to_vec()]), (2, cut));
    }
}

#[test]
fn an_incomplete_frame_comes_before_plain_sends() {
    let mut decoder = FrameDecoder::default();
    let (first, second) = (send(1, false, "", 20), send(2, false, "", 20));
    assert_eq!(decoder.next(&mut &first[..9], MAX), Ok(None));
    let mut input = &[&first[9..], &second[..]].concat()[..];
    let length = input.len();
    assert_eq!((decoder.sends(&mut input, 1, MAX).count(), decoder.sends(&mut input, 2, MAX).count()), (0, 0));
    assert_eq!((input.len(), decoder.is_unfinished()), (length, true));
    assert!(matches!(decoder.next(&mut input, MAX), Ok(Some(Frame::Send(send))) if send.id == 1));
    assert_eq!(decoder.sends(&mut input, 2, MAX).count(), 1, "the one before was returned, and is freed");
    assert!(input.is_empty());
}

#[test]
fn arrivals_are_acknowledged() {
    let mut arrivals = Arrivals::default();
    assert_eq!(arrivals.ack(), None);
    assert!(arrivals.add(1) && arrivals.add(4) && arrivals.add(2) && !arrivals.add(4));
    let ack = arrivals.ack().unwrap();
    assert_eq!(ack, Ack { largest: 4, bitmap: 0b110 });
    let contained: Vec<u64> = (0..=5).filter(|number| ack.contains(*number)).collect();
    assert_eq!(contained, [1, 2, 4]);
    assert!(arrivals.add(68));
    assert!(arrivals.ack().unwrap().contains(4));
    assert!(arrivals.add(1000) && !arrivals.add(900), "too old to tell");
}

proptest! {
    /// A written frame is parsed, and written back the same.
    #[test]
    fn frames_survive_the_wire(frame in any_frame()) {
        let mut bytes = &frame[..];
        prop_assert_eq!(Frame::take(&mut bytes).unwrap().to_vec(), &frame[..]);
        prop_assert!(bytes.is_empty());
    }

    /// However a stream is split into reads, the frames are the same.
    #[test]
    fn b8_frames_do_not_depend_on_the_reads(
        frames in prop::collection::vec(any_frame(), 1..5),
        cuts in prop::collection::vec(0usize..4000, 0..8)
    ) {
        let stream = frames.concat();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).chain([0, stream.len()]).collect();
        cuts.sort_unstable();
        let reads: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        prop_assert_eq!(decode(&reads), (frames.clone(), None, false));
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(decode(&bytes), (frames, None, false));
    }

    /// Mutated frames do not panic, and what is parsed before the mistake does not depend on the reads either.
    #[test]
    fn b9_mutated_frames_are_refused_or_read(
        frames in prop::collection::vec(any_frame(), 1..4),
        mutations in prop::collection::vec((0usize..4000, any::<u8>()), 1..6)
    ) {
        let mut stream = frames.concat();
        for (at, byte) in mutations {
            let at = at % stream.len();
            stream[at] = byte;
        }
        let whole = decode(&[&stream]);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(decode(&bytes), whole);
    }

    #[test]
    fn datagrams_begin_with_key_and_number(key: u64, number: u64, frames: Vec<u8>, noise: Vec<u8>) {
        let mut datagram = Vec::new();
        Envelope { key, number }.write(&mut datagram);
        prop_assert_eq!(datagram.len(), datagram::OVERHEAD);
        datagram.extend_from_slice(&frames);
        prop_assert_eq!(Envelope::split(&datagram), Some((Envelope { key, number }, &frames[..])));
        let _ = Envelope::split(&noise);
    }

    /// In any order of arrival, an ACK contains no number that did not arrive, and all of the last 65 that did.
    #[test]
    fn arrivals_claim_no_more_than_arrived(numbers in prop::collection::vec(1u64..200, 1..100)) {
        let mut arrivals = Arrivals::default();
        let mut seen = std::collections::BTreeSet::new();
        for number in numbers {
            let largest = seen.last().copied().unwrap_or(0).max(number);
            let is_new = seen.insert(number);
            if largest - number <= 64 {
                prop_assert_eq!(arrivals.add(number), is_new);
            } else {
                arrivals.add(number);
                seen.remove(&number);
            }
            let ack = arrivals.ack().unwrap();
            for candidate in largest.saturating_sub(64).max(1)..=largest + 1 {
                prop_assert_eq!(ack.contains(candidate), seen.contains(&candidate), "{}", candidate);
            }
        }
    }
}
