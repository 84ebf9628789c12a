//! What the simulation has found to be wrong, one by one.

use std::time::{Duration, SystemTime};

use super::super::{Audience, Entropy, Opening, Patience, Policy, Progress, Registration, Settings, Time};
use super::*;
use crate::address::Transport;
use crate::wire::format::Format;
use crate::wire::frame::datagram::Opening as Envelope;
use crate::wire::frame::{Resume, Upcall};

const NOW: Now = Now { time: Time(0), boot: Time(0), wall: SystemTime::UNIX_EPOCH };

fn engine() -> Engine {
    let settings = Settings {
        format: Format::parse("{data}").unwrap(),
        audience: Audience::All,
        max_endpoints: 10,
        lease: Duration::from_secs(60),
        max_message: 60_000,
        session_ttl: Duration::from_secs(60),
        message_timeout: None,
        max_behind: 200_000,
        patience: Patience::Limited(Duration::ZERO),
        policy: Policy::Skip,
        farewell: Duration::from_secs(5),
    };
    Engine::new(settings, 1 << 20, Entropy::seeded(1))
}

fn join(engine: &mut Engine, transport: Transport, hello: &Hello<'_>) -> (EndpointId, Welcome) {
    let peer = Peer::inet(([127, 0, 0, 1], 1).into());
    let (max_per_listener, max_per_source) = (None, None);
    let (opening, receives) = (Opening::Native, true);
    let who =
        Registration { opening, tag: 1, listener: 1, transport, peer, receives, max_per_listener, max_per_source };
    let id = engine.register(NOW, who).unwrap();
    let terms = Terms { sends: true, receives: true, history: true };
    let welcome = engine.hello(NOW, id, hello, terms).unwrap();
    (id, welcome)
}

fn input(engine: &mut Engine, topic: &str, data: &[u8]) {
    let origin = Origin(Transport::Tcp, Peer::inet(([127, 0, 0, 1], 2).into()));
    engine.append(NOW, &Input { sender: None, origin, topic, data, native: true });
}

/// What is sent to those who are ready: frames of a stream, or datagrams without their envelopes.
fn sent(engine: &mut Engine, id: EndpointId) -> Vec<Vec<u8>> {
    let mut ready = Vec::new();
    engine.take_ready(&mut ready);
    let mut sent = Vec::new();
    if ready.contains(&id) && engine.endpoint(id).is_some_and(|endpoint| endpoint.transport.is_datagram()) {
        let mut bytes = Vec::new();
        while engine.datagram(NOW, id, 2_000, &mut bytes).is_some() {
            sent.push(Envelope::split(&bytes).unwrap().1.to_vec());
            bytes.clear();
        }
        return sent;
    }
    let mut bytes = Vec::new();
    while ready.contains(&id) {
        let slices = engine.slices(id);
        let count = slices.bytes();
        bytes.extend(slices.iter().flat_map(|slice| slice.iter()));
        if engine.advance(NOW, id, count) == Progress::Done {
            break;
        }
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let before = rest;
        Frame::take(&mut rest).unwrap();
        sent.push(before[..before.len() - rest.len()].to_vec());
    }
    sent
}

fn sequences(frames: &[Vec<u8>]) -> Vec<u64> {
    let sequence = |frame: &Vec<u8>| match Frame::take(&mut &frame[..]) {
        Ok(Frame::Upcall(Upcall { sequence, .. })) => Some(sequence),
        _ => None,
    };
    frames.iter().filter_map(sequence).collect()
}

#[test]
fn a_send_only_endpoint_is_answered_and_gets_no_upcalls() {
    for transport in [Transport::Tcp, Transport::Udp] {
        let mut engine = engine();
        let (id, _) = join(&mut engine, transport, &Hello { role: Role::SendOnly, ..Hello::new(1) });
        sent(&mut engine, id);
        let send = Send { id: 1, receipt: true, topic: "", payload: b"x" };
        engine.frame(NOW, id, &Frame::Send(send)).unwrap();
        let frames = sent(&mut engine, id);
        assert_eq!((frames.len(), sequences(&frames)), (1, vec![]), "a receipt only");
        engine.leave(NOW, id, Reason::Shutdown);
        assert!(sequences(&sent(&mut engine, id)).is_empty());
        engine.check_invariants();
    }
}

#[test]
fn what_is_resumed_was_due_by_the_filters_of_then() {
    let mut engine = engine();
    let (id, welcome) = join(&mut engine, Transport::Tcp, &Hello::new(1));
    ["a", "b", "a"].iter().for_each(|topic| input(&mut engine, topic, b"x"));
    assert_eq!(sequences(&sent(&mut engine, id)), [1, 2, 3]);
    engine.frame(NOW, id, &Frame::Subscribe(FilterFrame { request: 1, filters: vec!["b"] }));
    assert_eq!(engine.filters_in_force(id), Some((4, Some(vec!["b"]))));
    // All of that was lost on the way.
    engine.lost(NOW, id, Reason::Reset);
    ["a", "b"].iter().for_each(|topic| input(&mut engine, topic, b"x"));
    let resume = Some(Resume { id: welcome.id, secret: welcome.secret, last: 0 });
    let (id, welcome) = join(&mut engine, Transport::Tcp, &Hello { resume, ..Hello::new(2) });
    assert_eq!((welcome.resumed, welcome.start), (true, 1));
    engine.frame(NOW, id, &Frame::Subscribe(FilterFrame { request: 1, filters: vec!["b"] }));
    let frames = sent(&mut engine, id);
    assert_eq!(sequences(&frames), [1, 2, 3, 5]);
    let again = |frame: &Vec<u8>| matches!(Frame::take(&mut &frame[..]), Ok(Frame::Subscribed { from: 4, .. }));
    assert!(frames.iter().any(again), "the same request is in force from the same sequence");
}

#[test]
fn who_waits_for_acknowledgements_is_told_of_its_gap() {
    let mut engine = engine();
    let (id, _) = join(&mut engine, Transport::Udp, &Hello::new(1));
    for _ in 0..300 {
        input(&mut engine, "", &[0; 1_000]);
        sent(&mut engine, id);
        engine.end_turn(NOW);
        engine.check_invariants();
    }
    let gaps = engine.counters().gaps;
    assert!(gaps > 0, "nothing was acknowledged");
    assert!(engine.endpoint(id).is_some_and(|endpoint| endpoint.delivery != Delivery::Ready), "it was sent");
}

#[test]
fn what_is_large_travels_without_what_would_make_it_too_large() {
    let mut engine = engine();
    let (id, _) = join(&mut engine, Transport::Udp, &Hello::new(1));
    engine.frame(NOW, id, &Frame::Ping { nonce: 7, cookie: None });
    input(&mut engine, "", &[0; 2_000 - 20 - 32]);
    let datagrams = sent(&mut engine, id);
    assert_eq!(datagrams.iter().map(Vec::len).collect::<Vec<_>>(), [16, 1_980], "no gap");
}

#[test]
fn a_gap_is_announced_again_where_its_datagram_was_too_large() {
    let mut engine = engine();
    let (id, _) = join(&mut engine, Transport::Udp, &Hello::new(1));
    input(&mut engine, "", &[0; 5_000]);
    let mut bytes = Vec::new();
    engine.take_ready(&mut Vec::new());
    let number = engine.datagram(NOW, id, 2_000, &mut bytes).unwrap();
    let (_, mut frames) = Envelope::split(&bytes).unwrap();
    let gap = Frame::take(&mut frames).unwrap();
    assert!(matches!(gap, Frame::Gap(Gap { first: 1, last: 1, reason: GapReason::TooLarge })));
    engine.oversize(id, number);
    let mut again = Vec::new();
    engine.datagram(NOW, id, 2_000, &mut again).unwrap();
    assert_eq!(Frame::take(&mut Envelope::split(&again).unwrap().1).unwrap(), gap);
}
