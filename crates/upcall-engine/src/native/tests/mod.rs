//! What native endpoints, and endpoints whose protocol is not known yet, receive and do not receive.

mod behind;
mod protocol_detection;
mod runs;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use upcall_wire::address::{Peer, Transport};
use upcall_wire::format::Format;
use upcall_wire::frame::datagram::Envelope;
use upcall_wire::frame::{
    Ack, Code, ErrorFrame, Filters as FilterFrame, Frame, Hello, Resume, Role, Send, Violation, Welcome, kind,
};
use upcall_wire::reason::Reason;

use super::{Terms, violation};
use crate::delivery::outbox::MAX_CONTROL;
use crate::input::{Input, Origin};
use crate::{
    Accepted, Audience, EndpointId, Engine, Entropy, Event, ExpectedProtocol, InputTurn, Intake, Now, Patience, Policy,
    Progress, Registration, Settings, Time,
};

const BOTH: Terms = Terms { sends: true, receives: true, history: false, max_sessions: None };
const INPUT: Terms = Terms { sends: true, receives: false, history: false, max_sessions: None };
const MAX_BEHIND: u64 = 256 << 10;

fn settings() -> Settings {
    Settings {
        format: Format::parse("{data}").unwrap(),
        audience: Audience::All,
        max_endpoints: 100,
        lease: Duration::from_secs(60),
        max_message: 60 << 10,
        session_ttl: Duration::from_secs(300),
        message_timeout: None,
        max_behind: MAX_BEHIND,
        patience: Patience::Limited(Duration::ZERO),
        policy: Policy::Disconnect,
        farewell: Duration::from_secs(5),
    }
}

/// An engine with a clock, and the client side of its endpoints.
struct World {
    engine: Engine,
    now: Now,
}

impl World {
    fn new(settings: Settings) -> World {
        let now = Now { time: Time(0), boot: Time(0), wall: SystemTime::UNIX_EPOCH };
        World { engine: Engine::new(settings, 1 << 20, Entropy::seeded(7)), now }
    }

    fn later(&mut self, time: Duration) {
        (self.now.time, self.now.boot) = (self.now.time + time, self.now.boot + time);
        self.engine.expire(self.now);
        self.end_turn();
    }

    fn end_turn(&mut self) {
        self.engine.end_turn(self.now);
        self.engine.check_invariants();
    }

    fn connect(&mut self, protocol: ExpectedProtocol, transport: Transport, receives: bool) -> EndpointId {
        let peer = Peer::inet(SocketAddr::from(([127, 0, 0, 1], 1)));
        let client = Registration {
            protocol,
            tag: 1,
            listener: 1,
            transport,
            peer,
            receives,
            max_per_listener: None,
            max_per_source: None,
        };
        self.engine.register(self.now, client).unwrap()
    }

    /// A native endpoint, and its WELCOME.
    fn join(&mut self, transport: Transport, hello: &Hello<'_>, terms: Terms) -> (EndpointId, Welcome) {
        let id = self.connect(ExpectedProtocol::Native, transport, terms.receives);
        let welcome = self.engine.handle_hello(self.now, id, hello, terms).unwrap();
        (id, welcome)
    }

    /// An input from a client that is not registered.
    fn publish(&mut self, topic: &str, payload: &[u8]) -> u64 {
        let origin = Origin(Transport::Tcp, Peer::inet(SocketAddr::from(([127, 0, 0, 1], 2))));
        self.engine.append(self.now, &Input { sender: None, origin, topic, data: payload, native: true }).sequence
    }

    fn send(&mut self, id: EndpointId, message: u64, payload: &[u8]) -> Option<Accepted> {
        self.engine.handle_frame(self.now, id, &Frame::Send(Send { id: message, receipt: true, topic: "", payload }))
    }

    fn subscribe(&mut self, id: EndpointId, request: u32, filters: Vec<&str>) {
        self.engine.handle_frame(self.now, id, &Frame::Subscribe(FilterFrame { request, filters }));
    }

    fn ready(&mut self, id: EndpointId) -> bool {
        let mut ready = Vec::new();
        self.engine.take_ready(&mut ready);
        ready.contains(&id)
    }

    /// Everything that is written to a stream now.
    fn read(&mut self, id: EndpointId) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.ready(id);
        loop {
            let slices = self.engine.slices(id);
            slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
            let count = slices.bytes();
            if self.engine.advance(self.now, id, count) == Progress::Done {
                return bytes;
            }
        }
    }

    /// Everything that is sent to a datagram endpoint now: numbers and frames.
    fn receive(&mut self, id: EndpointId, max: usize) -> Vec<(u64, Vec<u8>)> {
        let mut datagrams = Vec::new();
        if !self.ready(id) {
            return datagrams;
        }
        loop {
            let mut bytes = Vec::new();
            let Some(number) = self.engine.next_datagram(self.now, id, max, &mut bytes) else { return datagrams };
            assert!(bytes.len() <= max);
            datagrams.push((number, Envelope::split(&bytes).unwrap().1.to_vec()));
        }
    }
}

/// The frames in `bytes`, by their names.
fn names(mut bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while !bytes.is_empty() {
        names.push(match Frame::take(&mut bytes).unwrap() {
            Frame::Upcall(upcall) => format!("UPCALL {}", upcall.sequence),
            Frame::Welcome(welcome) => format!("WELCOME {}", welcome.start),
            Frame::Error(error) => format!("ERROR {} {}", error.code, error.reference),
            Frame::Gap(gap) => format!("GAP {}-{} {}", gap.first, gap.last, gap.reason),
            Frame::Receipt(receipt) => format!("RECEIPT {}", receipt.id),
            Frame::Subscribed { request, .. } => format!("SUBSCRIBED {request}"),
            Frame::Bye(reason) => format!("BYE {reason}"),
            Frame::Pong { nonce } => format!("PONG {nonce}"),
            other => format!("{other:?}"),
        });
    }
    names
}

fn resume(welcome: &Welcome, last: u64) -> Hello<'static> {
    let resume = Some(Resume { id: welcome.id, secret: welcome.secret, last });
    Hello { resume, ..Hello::new(2) }
}

#[test]
fn an_endpoint_without_a_welcome_receives_no_upcalls() {
    let mut world = World::new(settings());
    let (_listener, _) = world.join(Transport::Tcp, &Hello::new(1), BOTH);
    for expected in [ExpectedProtocol::Native, ExpectedProtocol::Auto] {
        let id = world.connect(expected, Transport::Tcp, true);
        world.engine.detected_native(world.now, id);
        world.publish("", b"secret");
        world.engine.handle_violation(world.now, id, &violation(Code::Unauthorized, kind::HELLO, "the token is wrong"));
        assert_eq!(names(&world.read(id)), ["ERROR unauthorized 0", "BYE protocol"]);
    }
}

#[test]
fn an_endpoint_that_only_sends_receives_no_upcalls() {
    let mut world = World::new(settings());
    let role = Role::SendOnly;
    for (hello, terms) in [(Hello { role, ..Hello::new(1) }, BOTH), (Hello::new(1), INPUT)] {
        let (id, _) = world.join(Transport::Tcp, &hello, terms);
        world.read(id);
        world.send(id, 1, b"x").unwrap();
        world.publish("", b"y");
        assert_eq!(names(&world.read(id)), ["RECEIPT 1"]);
        world.publish("", b"z");
        world.engine.leave(world.now, id, Reason::Shutdown);
        assert_eq!(names(&world.read(id)), ["BYE shutdown"]);
        world.end_turn();
    }
}

#[test]
fn a_listener_for_input_sends_text_clients_nothing() {
    let mut world = World::new(settings());
    let id = world.connect(ExpectedProtocol::Auto, Transport::Tcp, false);
    let _reader = world.connect(ExpectedProtocol::Text, Transport::Tcp, true);
    world.publish("", b"secret");
    world.engine.detected_text(world.now, id);
    assert_eq!(world.read(id), b"");
}

#[test]
fn an_endpoint_that_has_vanished_holds_inputs_no_longer_than_its_lease() {
    let mut world = World::new(Settings { patience: Patience::Forever, ..settings() });
    let (id, _) = world.join(Transport::Udp, &Hello::new(1), BOTH);
    while world.engine.intake() == Intake::Open || world.engine.intake() == Intake::Full {
        world.publish("", &[b'x'; 10_000]);
        world.receive(id, 65_507);
        world.end_turn();
    }
    (0..61).for_each(|_| world.later(Duration::from_secs(1)));
    assert_eq!(world.engine.intake(), Intake::Open);
    assert!(world.engine.endpoint(id).is_none());
}

/// A native datagram endpoint whose window is full.
fn with_full_window(policy: Policy) -> (World, EndpointId, Welcome) {
    let mut world = World::new(Settings { policy, ..settings() });
    let (id, welcome) = world.join(Transport::Udp, &Hello::new(1), BOTH);
    for _ in 0..20 {
        world.publish("", &[b'x'; 1_000]);
    }
    assert_eq!(world.receive(id, 65_507).len(), 10);
    world.end_turn();
    (world, id, welcome)
}

#[test]
fn answers_do_not_wait_for_room_in_the_window() {
    let (mut world, id, _) = with_full_window(Policy::Disconnect);
    world.engine.handle_frame(world.now, id, &Frame::Ping { nonce: 5, cookie: None });
    let [(0, frames)] = &world.receive(id, 65_507)[..] else { panic!("one datagram without a number") };
    assert_eq!(names(frames), ["PONG 5"]);
    world.end_turn();
}

#[test]
fn a_skip_over_datagrams_is_announced_at_once() {
    let (mut world, id, _) = with_full_window(Policy::Skip);
    world.engine.apply_policy(world.now, id);
    let [(number, frames)] = &world.receive(id, 65_507)[..] else { panic!("one datagram") };
    assert_eq!(names(frames), ["GAP 1-20 slow_consumer"]);
    world.end_turn();
    world.engine.handle_frame(world.now, id, &Frame::Ack(Ack { largest: *number, bitmap: 0 }));
    world.publish("", b"more");
    assert_eq!(names(&world.receive(id, 65_507)[0].1), ["UPCALL 21"]);
}

#[test]
fn a_disconnect_over_datagrams_is_announced_at_once() {
    let (mut world, id, _) = with_full_window(Policy::Disconnect);
    world.engine.apply_policy(world.now, id);
    let [(0, frames)] = &world.receive(id, 65_507)[..] else { panic!("one datagram") };
    assert_eq!(names(frames), ["BYE slow_consumer"]);
    assert!(matches!(world.engine.next_event(), Some(Event::Left { reason: Reason::SlowConsumer, .. })));
}

#[test]
fn an_endpoint_that_does_not_read_its_answers_is_parked_until_it_has() {
    let mut world = World::new(settings());
    let (id, _) = world.join(Transport::Tcp, &Hello::new(1), BOTH);
    world.read(id);
    let mut pings = 0;
    while world.engine.request_input(world.now, id) == InputTurn::Granted {
        world.engine.handle_frame(world.now, id, &Frame::Ping { nonce: pings, cookie: None });
        pings += 1;
    }
    assert_eq!(pings as usize, MAX_CONTROL / 16);
    assert!(world.engine.is_parked(id), "otherwise the driver would retry in a busy loop");
    assert_eq!(names(&world.read(id)).len(), MAX_CONTROL / 16);
    assert!(matches!(world.engine.next_event(), Some(Event::Unparked(1))));
    assert!(!world.engine.is_parked(id));
    assert!(world.engine.request_input(world.now, id) == InputTurn::Granted);
}

#[test]
fn a_sequence_of_another_log_is_not_a_mistake() {
    let mut world = World::new(settings());
    let (id, welcome) = world.join(Transport::Tcp, &Hello { since: None, ..Hello::new(1) }, BOTH);
    world.publish("", b"x");
    world.engine.connection_lost(world.now, id, Reason::Reset);
    for (id, last, expected) in [(77, 1_000, "ERROR unknown_session 2"), (welcome.id, 2, "ERROR malformed 2")] {
        let endpoint = world.connect(ExpectedProtocol::Native, Transport::Tcp, true);
        let hello = resume(&Welcome { id, ..welcome }, last);
        world.engine.handle_hello(world.now, endpoint, &hello, BOTH).unwrap_err();
        assert_eq!(names(&world.read(endpoint))[0], expected);
    }
    // SINCE has no meaning here, and so cannot be forbidden.
    let (id, welcome) = world.join(Transport::Tcp, &Hello { since: Some(0), ..resume(&welcome, 0) }, BOTH);
    assert!(welcome.resumed);
    assert_eq!(names(&world.read(id)), ["WELCOME 1", "UPCALL 1"]);
}

#[test]
fn a_session_resumes_no_earlier_than_it_began() {
    let mut world = World::new(settings());
    world.publish("", b"before");
    let (_, welcome) = world.join(Transport::Tcp, &Hello::new(1), BOTH);
    let endpoint = world.connect(ExpectedProtocol::Native, Transport::Tcp, true);
    let wrong = world.engine.handle_hello(world.now, endpoint, &resume(&welcome, 0), BOTH).unwrap_err();
    assert_eq!(wrong.code, Code::Malformed);
    assert_eq!(world.engine.registered(), 1, "it was not taken from the endpoint that has it");
}

#[test]
fn a_superseded_connection_receives_only_what_matches_its_filters() {
    let mut world = World::new(settings());
    let (old, welcome) = world.join(Transport::Tcp, &Hello { filters: vec!["a"], ..Hello::new(1) }, BOTH);
    world.read(old);
    for topic in ["a", "b", "a"] {
        world.publish(topic, b"x");
    }
    let (new, _) = world.join(Transport::Tcp, &resume(&welcome, 0), BOTH);
    assert_eq!(names(&world.read(old)), ["UPCALL 1", "UPCALL 3", "BYE superseded"]);
    assert_eq!(names(&world.read(new)), ["WELCOME 1", "UPCALL 1", "UPCALL 3"]);
}

#[test]
fn requests_are_handled_in_order_and_used_up_by_refusals() {
    for (transport, ahead) in [(Transport::Udp, &[][..]), (Transport::Tcp, &["ERROR out_of_order 6", "BYE protocol"])] {
        let mut world = World::new(settings());
        let (id, _) = world.join(transport, &Hello::new(1), BOTH);
        let answers = |world: &mut World| match transport {
            Transport::Tcp => names(&world.read(id)),
            _ => world.receive(id, 65_507).iter().flat_map(|(_, frames)| names(frames)).collect(),
        };
        answers(&mut world);
        world.subscribe(id, 1, vec!["a"]);
        assert_eq!(answers(&mut world), ["SUBSCRIBED 1"]);
        let bad = Violation { reference: 2, ..violation(Code::BadTopic, kind::SUBSCRIBE, "that is not a filter") };
        world.engine.handle_violation(world.now, id, &bad);
        assert_eq!(answers(&mut world), ["ERROR bad_topic 2"]);
        let many: Vec<String> = (0..64).map(|n| n.to_string()).collect();
        world.subscribe(id, 3, many.iter().map(String::as_str).collect());
        assert_eq!(answers(&mut world), ["ERROR limit 3"]);
        world.subscribe(id, 4, vec!["b"]);
        world.subscribe(id, 3, vec!["c"]);
        assert_eq!(answers(&mut world), ["SUBSCRIBED 4", "SUBSCRIBED 3"]);
        world.subscribe(id, 6, vec!["d"]);
        assert_eq!(answers(&mut world), ahead, "over datagrams, the one before will be sent again");
    }
}

#[test]
fn a_message_that_is_too_large_is_refused_permanently() {
    let mut world = World::new(settings());
    let (id, welcome) = world.join(Transport::Tcp, &Hello::new(1), BOTH);
    world.read(id);
    assert_eq!(world.send(id, 1, &vec![0; 61 << 10]), None);
    assert_eq!(names(&world.read(id)), ["ERROR too_large 1", "BYE protocol"]);
    let (_, welcome) = world.join(Transport::Tcp, &resume(&welcome, 0), BOTH);
    assert_eq!(welcome.last_message, 1, "or it would be sent again, forever");
}

#[test]
fn text_where_native_is_required_is_refused_in_text() {
    let mut world = World::new(settings());
    let id = world.connect(ExpectedProtocol::Native, Transport::Tcp, true);
    world.publish("", b"secret");
    world.engine.reject(world.now, id, Reason::CredentialsRequired);
    assert_eq!(world.read(id), b"upcalld: credentials_required\n");
}

#[test]
fn answers_make_no_datagram_too_large() {
    let mut world = World::new(settings());
    let (id, _) = world.join(Transport::Udp, &Hello::new(1), BOTH);
    let max = 2_000;
    world.publish("", &vec![b'x'; max - 20 - 32]);
    for nonce in 0..30 {
        world.publish("", &[b'x'; 70]);
        if nonce < 10 {
            world.engine.handle_frame(world.now, id, &Frame::Ping { nonce, cookie: None });
        }
    }
    let datagrams = world.receive(id, max);
    let names: Vec<String> = datagrams.iter().flat_map(|(_, frames)| names(frames)).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("UPCALL")).count(), 31, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("PONG")).count(), 10, "{names:?}");
    assert!(datagrams[1..].iter().all(|(_, frames)| frames.len() + 20 <= 1_200));
}

#[test]
fn over_datagrams_no_answer_is_answered_and_no_flood_of_mistakes() {
    let mut world = World::new(settings());
    let (id, _) = world.join(Transport::Udp, &Hello::new(1), BOTH);
    let error = Frame::Error(ErrorFrame { code: Code::Unexpected, about: kind::PING, reference: 0, text: "" });
    let malformed = violation(Code::Malformed, kind::GAP, "that is not a range of sequences");
    for _ in 0..100 {
        world.engine.handle_frame(world.now, id, &error);
        world.engine.handle_violation(world.now, id, &malformed);
    }
    assert_eq!(world.receive(id, 65_507), []);
    let mistake = violation(Code::UnknownKind, 0x10, "there is no such kind of frame");
    (0..1_000).for_each(|_| world.engine.handle_violation(world.now, id, &mistake));
    let answers = |world: &mut World| world.receive(id, 65_507).iter().flat_map(|(_, frames)| names(frames)).count();
    assert_eq!(answers(&mut world), 20);
    world.later(Duration::from_secs(1));
    world.engine.handle_violation(world.now, id, &mistake);
    assert_eq!(answers(&mut world), 1);
}

#[test]
fn a_session_of_an_input_listener_does_not_receive_earlier_inputs_elsewhere() {
    let mut world = World::new(settings());
    let (id, first) = world.join(Transport::Tcp, &Hello::new(1), INPUT);
    world.publish("", b"secret");
    world.engine.connection_lost(world.now, id, Reason::Reset);
    let (id, again) = world.join(Transport::Tcp, &resume(&first, first.start - 1), BOTH);
    assert_eq!((again.resumed, again.start, again.id), (true, 2, first.id));
    world.publish("", b"public");
    assert_eq!(names(&world.read(id)), ["WELCOME 2", "UPCALL 2"]);
}

#[test]
fn an_endpoint_that_has_moved_has_its_new_address() {
    let mut world = World::new(settings());
    let (id, _) = world.join(Transport::Udp, &Hello::new(1), BOTH);
    let peer = Peer::inet(SocketAddr::from(([192, 0, 2, 7], 9)));
    world.engine.set_peer(id, peer);
    assert_eq!(world.engine.endpoint(id).map(|endpoint| endpoint.peer), Some(peer));
    world.end_turn();
    world.engine.connection_lost(world.now, id, Reason::Reset);
    world.end_turn();
}

#[test]
fn an_endpoint_that_does_not_read_refusals_is_disconnected() {
    let mut world = World::new(settings());
    let id = world.connect(ExpectedProtocol::Native, Transport::Tcp, true);
    let unknown = Hello { resume: Some(Resume { id: 9, secret: [0; 16], last: 0 }), ..Hello::new(1) };
    let mut asked = 0;
    while world.engine.endpoint(id).is_some_and(|endpoint| endpoint.leaving().is_none()) {
        world.engine.handle_hello(world.now, id, &unknown, BOTH).unwrap_err();
        asked += 1;
        assert!(asked < 1_000);
    }
    assert_eq!(names(&world.read(id)).last().map(String::as_str), Some("BYE protocol"));
}
