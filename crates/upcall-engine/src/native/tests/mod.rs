//! What native endpoints, and those who have yet to become some, get and do not get.

mod behind;
mod protocol_detection;
mod runs;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::*;
use crate::{
    Audience, EndpointId, Engine, Entropy, Event, ExpectedProtocol, Patience, Policy, Progress, Registration, Settings,
    Time,
};
use upcall_wire::address::Transport;
use upcall_wire::format::Format;
use upcall_wire::frame::datagram::Envelope;
use upcall_wire::frame::{Ack, Resume};

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

struct Bench {
    engine: Engine,
    now: Now,
}

impl Bench {
    fn new(settings: Settings) -> Bench {
        let now = Now { time: Time(0), boot: Time(0), wall: SystemTime::UNIX_EPOCH };
        Bench { engine: Engine::new(settings, 1 << 20, Entropy::seeded(7)), now }
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
        let who = Registration {
            protocol,
            tag: 1,
            listener: 1,
            transport,
            peer,
            receives,
            max_per_listener: None,
            max_per_source: None,
        };
        self.engine.register(self.now, who).unwrap()
    }

    /// A native endpoint, and its WELCOME.
    fn join(&mut self, transport: Transport, hello: &Hello<'_>, terms: Terms) -> (EndpointId, Welcome) {
        let id = self.connect(ExpectedProtocol::Native, transport, terms.receives);
        let welcome = self.engine.handle_hello(self.now, id, hello, terms).unwrap();
        (id, welcome)
    }

    /// Somebody else says something.
    fn say(&mut self, topic: &str, payload: &[u8]) -> u64 {
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

/// What frames there are, by their names.
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
fn who_is_not_welcome_hears_nothing_of_what_is_said_meanwhile() {
    let mut bench = Bench::new(settings());
    let (_listener, _) = bench.join(Transport::Tcp, &Hello::new(1), BOTH);
    for opening in [ExpectedProtocol::Native, ExpectedProtocol::Auto] {
        let id = bench.connect(opening, Transport::Tcp, true);
        bench.engine.detected_native(bench.now, id);
        bench.say("", b"secret");
        bench.engine.handle_violation(bench.now, id, &refusal(Code::Unauthorized, kind::HELLO, "the token is wrong"));
        assert_eq!(names(&bench.read(id)), ["ERROR unauthorized 0", "BYE protocol"]);
    }
}

#[test]
fn who_only_sends_gets_no_upcalls() {
    let mut bench = Bench::new(settings());
    let role = Role::SendOnly;
    for (hello, terms) in [(Hello { role, ..Hello::new(1) }, BOTH), (Hello::new(1), INPUT)] {
        let (id, _) = bench.join(Transport::Tcp, &hello, terms);
        bench.read(id);
        bench.send(id, 1, b"x").unwrap();
        bench.say("", b"y");
        assert_eq!(names(&bench.read(id)), ["RECEIPT 1"]);
        bench.say("", b"z");
        bench.engine.leave(bench.now, id, Reason::Shutdown);
        assert_eq!(names(&bench.read(id)), ["BYE shutdown"]);
        bench.end_turn();
    }
}

#[test]
fn a_listener_for_input_sends_text_clients_nothing() {
    let mut bench = Bench::new(settings());
    let id = bench.connect(ExpectedProtocol::Auto, Transport::Tcp, false);
    let _reader = bench.connect(ExpectedProtocol::Text, Transport::Tcp, true);
    bench.say("", b"secret");
    bench.engine.detected_text(bench.now, id);
    assert_eq!(bench.read(id), b"");
}

#[test]
fn one_that_has_vanished_holds_everybody_no_longer_than_its_lease() {
    let mut bench = Bench::new(Settings { patience: Patience::Forever, ..settings() });
    let (id, _) = bench.join(Transport::Udp, &Hello::new(1), BOTH);
    while bench.engine.intake() == Intake::Open || bench.engine.intake() == Intake::Full {
        bench.say("", &[b'x'; 10_000]);
        bench.receive(id, 65_507);
        bench.end_turn();
    }
    (0..61).for_each(|_| bench.later(Duration::from_secs(1)));
    assert_eq!(bench.engine.intake(), Intake::Open);
    assert!(bench.engine.endpoint(id).is_none());
}

/// A native datagram endpoint whose window is full.
fn with_full_window(policy: Policy) -> (Bench, EndpointId, Welcome) {
    let mut bench = Bench::new(Settings { policy, ..settings() });
    let (id, welcome) = bench.join(Transport::Udp, &Hello::new(1), BOTH);
    for _ in 0..20 {
        bench.say("", &[b'x'; 1_000]);
    }
    assert_eq!(bench.receive(id, 65_507).len(), 10);
    bench.end_turn();
    (bench, id, welcome)
}

#[test]
fn answers_do_not_wait_for_room_in_the_window() {
    let (mut bench, id, _) = with_full_window(Policy::Disconnect);
    bench.engine.handle_frame(bench.now, id, &Frame::Ping { nonce: 5, cookie: None });
    let [(0, frames)] = &bench.receive(id, 65_507)[..] else { panic!("one datagram that nobody has to acknowledge") };
    assert_eq!(names(frames), ["PONG 5"]);
    bench.end_turn();
}

#[test]
fn who_is_skipped_over_datagrams_is_told_at_once() {
    let (mut bench, id, _) = with_full_window(Policy::Skip);
    bench.engine.apply_policy(bench.now, id);
    let [(number, frames)] = &bench.receive(id, 65_507)[..] else { panic!("one datagram") };
    assert_eq!(names(frames), ["GAP 1-20 slow_consumer"]);
    bench.end_turn();
    bench.engine.handle_frame(bench.now, id, &Frame::Ack(Ack { largest: *number, bitmap: 0 }));
    bench.say("", b"more");
    assert_eq!(names(&bench.receive(id, 65_507)[0].1), ["UPCALL 21"]);
}

#[test]
fn who_is_cut_off_over_datagrams_is_told_at_once() {
    let (mut bench, id, _) = with_full_window(Policy::Disconnect);
    bench.engine.apply_policy(bench.now, id);
    let [(0, frames)] = &bench.receive(id, 65_507)[..] else { panic!("one datagram") };
    assert_eq!(names(frames), ["BYE slow_consumer"]);
    assert!(matches!(bench.engine.next_event(), Some(Event::Left { reason: Reason::SlowConsumer, .. })));
}

#[test]
fn one_that_does_not_read_its_answers_is_parked_until_it_has() {
    let mut bench = Bench::new(settings());
    let (id, _) = bench.join(Transport::Tcp, &Hello::new(1), BOTH);
    bench.read(id);
    let mut pings = 0;
    while bench.engine.request_input(bench.now, id) == crate::InputTurn::Granted {
        bench.engine.handle_frame(bench.now, id, &Frame::Ping { nonce: pings, cookie: None });
        pings += 1;
    }
    assert_eq!(pings as usize, MAX_CONTROL / 16);
    assert!(bench.engine.is_parked(id), "or the driver would try again at once, and again");
    assert_eq!(names(&bench.read(id)).len(), MAX_CONTROL / 16);
    assert!(matches!(bench.engine.next_event(), Some(Event::Unparked(1))));
    assert!(!bench.engine.is_parked(id));
    assert!(bench.engine.request_input(bench.now, id) == crate::InputTurn::Granted);
}

#[test]
fn what_was_seen_of_another_log_is_no_mistake() {
    let mut bench = Bench::new(settings());
    let (id, welcome) = bench.join(Transport::Tcp, &Hello { since: None, ..Hello::new(1) }, BOTH);
    bench.say("", b"x");
    bench.engine.connection_lost(bench.now, id, Reason::Reset);
    for (id, last, expected) in [(77, 1_000, "ERROR unknown_session 2"), (welcome.id, 2, "ERROR malformed 2")] {
        let endpoint = bench.connect(ExpectedProtocol::Native, Transport::Tcp, true);
        let hello = resume(&Welcome { id, ..welcome }, last);
        bench.engine.handle_hello(bench.now, endpoint, &hello, BOTH).unwrap_err();
        assert_eq!(names(&bench.read(endpoint))[0], expected);
    }
    // SINCE has no meaning here, and so cannot be forbidden.
    let (id, welcome) = bench.join(Transport::Tcp, &Hello { since: Some(0), ..resume(&welcome, 0) }, BOTH);
    assert!(welcome.resumed);
    assert_eq!(names(&bench.read(id)), ["WELCOME 1", "UPCALL 1"]);
}

#[test]
fn a_session_goes_on_no_earlier_than_it_began() {
    let mut bench = Bench::new(settings());
    bench.say("", b"before");
    let (_, welcome) = bench.join(Transport::Tcp, &Hello::new(1), BOTH);
    let endpoint = bench.connect(ExpectedProtocol::Native, Transport::Tcp, true);
    let wrong = bench.engine.handle_hello(bench.now, endpoint, &resume(&welcome, 0), BOTH).unwrap_err();
    assert_eq!(wrong.code, Code::Malformed);
    assert_eq!(bench.engine.registered(), 1, "it was not taken from whoever has it");
}

#[test]
fn a_connection_that_is_superseded_gets_what_matches_its_filters_only() {
    let mut bench = Bench::new(settings());
    let (old, welcome) = bench.join(Transport::Tcp, &Hello { filters: vec!["a"], ..Hello::new(1) }, BOTH);
    bench.read(old);
    for topic in ["a", "b", "a"] {
        bench.say(topic, b"x");
    }
    let (new, _) = bench.join(Transport::Tcp, &resume(&welcome, 0), BOTH);
    assert_eq!(names(&bench.read(old)), ["UPCALL 1", "UPCALL 3", "BYE superseded"]);
    assert_eq!(names(&bench.read(new)), ["WELCOME 1", "UPCALL 1", "UPCALL 3"]);
}

#[test]
fn requests_are_taken_in_their_order_and_used_up_by_refusals() {
    for (transport, ahead) in [(Transport::Udp, &[][..]), (Transport::Tcp, &["ERROR out_of_order 6", "BYE protocol"])] {
        let mut bench = Bench::new(settings());
        let (id, _) = bench.join(transport, &Hello::new(1), BOTH);
        let answers = |bench: &mut Bench| match transport {
            Transport::Tcp => names(&bench.read(id)),
            _ => bench.receive(id, 65_507).iter().flat_map(|(_, frames)| names(frames)).collect(),
        };
        answers(&mut bench);
        bench.subscribe(id, 1, vec!["a"]);
        assert_eq!(answers(&mut bench), ["SUBSCRIBED 1"]);
        let bad = Violation { reference: 2, ..refusal(Code::BadTopic, kind::SUBSCRIBE, "that is not a filter") };
        bench.engine.handle_violation(bench.now, id, &bad);
        assert_eq!(answers(&mut bench), ["ERROR bad_topic 2"]);
        let many: Vec<String> = (0..64).map(|n| n.to_string()).collect();
        bench.subscribe(id, 3, many.iter().map(String::as_str).collect());
        assert_eq!(answers(&mut bench), ["ERROR limit 3"]);
        bench.subscribe(id, 4, vec!["b"]);
        bench.subscribe(id, 3, vec!["c"]);
        assert_eq!(answers(&mut bench), ["SUBSCRIBED 4", "SUBSCRIBED 3"]);
        bench.subscribe(id, 6, vec!["d"]);
        assert_eq!(answers(&mut bench), ahead, "over datagrams, the one before will be sent again");
    }
}

#[test]
fn a_message_that_is_too_large_is_refused_for_good() {
    let mut bench = Bench::new(settings());
    let (id, welcome) = bench.join(Transport::Tcp, &Hello::new(1), BOTH);
    bench.read(id);
    assert_eq!(bench.send(id, 1, &vec![0; 61 << 10]), None);
    assert_eq!(names(&bench.read(id)), ["ERROR too_large 1", "BYE protocol"]);
    let (_, welcome) = bench.join(Transport::Tcp, &resume(&welcome, 0), BOTH);
    assert_eq!(welcome.last_message, 1, "or it would be sent again, for ever");
}

#[test]
fn who_speaks_text_where_that_will_not_do_is_told_in_text() {
    let mut bench = Bench::new(settings());
    let id = bench.connect(ExpectedProtocol::Native, Transport::Tcp, true);
    bench.say("", b"secret");
    bench.engine.reject(bench.now, id, Reason::CredentialsRequired);
    assert_eq!(bench.read(id), b"upcalld: credentials_required\n");
}

#[test]
fn answers_make_no_datagram_too_large() {
    let mut bench = Bench::new(settings());
    let (id, _) = bench.join(Transport::Udp, &Hello::new(1), BOTH);
    let max = 2_000;
    bench.say("", &vec![b'x'; max - 20 - 32]);
    for nonce in 0..30 {
        bench.say("", &[b'x'; 70]);
        if nonce < 10 {
            bench.engine.handle_frame(bench.now, id, &Frame::Ping { nonce, cookie: None });
        }
    }
    let datagrams = bench.receive(id, max);
    let names: Vec<String> = datagrams.iter().flat_map(|(_, frames)| names(frames)).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("UPCALL")).count(), 31, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("PONG")).count(), 10, "{names:?}");
    assert!(datagrams[1..].iter().all(|(_, frames)| frames.len() + 20 <= 1_200));
}

#[test]
fn over_datagrams_no_answer_is_answered_and_no_flood_of_mistakes() {
    let mut bench = Bench::new(settings());
    let (id, _) = bench.join(Transport::Udp, &Hello::new(1), BOTH);
    let error = Frame::Error(ErrorFrame { code: Code::Unexpected, about: kind::PING, reference: 0, text: "" });
    let malformed = refusal(Code::Malformed, kind::GAP, "that is no range of sequences");
    for _ in 0..100 {
        bench.engine.handle_frame(bench.now, id, &error);
        bench.engine.handle_violation(bench.now, id, &malformed);
    }
    assert_eq!(bench.receive(id, 65_507), []);
    let mistake = refusal(Code::UnknownKind, 0x10, "there is no such kind of frame");
    (0..1_000).for_each(|_| bench.engine.handle_violation(bench.now, id, &mistake));
    let answers = |bench: &mut Bench| bench.receive(id, 65_507).iter().flat_map(|(_, frames)| names(frames)).count();
    assert_eq!(answers(&mut bench), 20);
    bench.later(Duration::from_secs(1));
    bench.engine.handle_violation(bench.now, id, &mistake);
    assert_eq!(answers(&mut bench), 1);
}

#[test]
fn a_session_of_a_listener_for_input_does_not_get_elsewhere_what_was_said_meanwhile() {
    let mut bench = Bench::new(settings());
    let (id, first) = bench.join(Transport::Tcp, &Hello::new(1), INPUT);
    bench.say("", b"secret");
    bench.engine.connection_lost(bench.now, id, Reason::Reset);
    let (id, again) = bench.join(Transport::Tcp, &resume(&first, first.start - 1), BOTH);
    assert_eq!((again.resumed, again.start, again.id), (true, 2, first.id));
    bench.say("", b"public");
    assert_eq!(names(&bench.read(id)), ["WELCOME 2", "UPCALL 2"]);
}

#[test]
fn one_that_has_moved_is_where_it_is_now() {
    let mut bench = Bench::new(settings());
    let (id, _) = bench.join(Transport::Udp, &Hello::new(1), BOTH);
    let peer = Peer::inet(SocketAddr::from(([192, 0, 2, 7], 9)));
    bench.engine.set_peer(id, peer);
    assert_eq!(bench.engine.endpoint(id).map(|endpoint| endpoint.peer), Some(peer));
    bench.end_turn();
    bench.engine.connection_lost(bench.now, id, Reason::Reset);
    bench.end_turn();
}

#[test]
fn who_does_not_listen_to_refusals_is_not_refused_for_ever() {
    let mut bench = Bench::new(settings());
    let id = bench.connect(ExpectedProtocol::Native, Transport::Tcp, true);
    let unknown = Hello { resume: Some(Resume { id: 9, secret: [0; 16], last: 0 }), ..Hello::new(1) };
    let mut asked = 0;
    while bench.engine.endpoint(id).is_some_and(|endpoint| endpoint.leaving().is_none()) {
        bench.engine.handle_hello(bench.now, id, &unknown, BOTH).unwrap_err();
        asked += 1;
        assert!(asked < 1_000);
    }
    assert_eq!(names(&bench.read(id)).last().map(String::as_str), Some("BYE protocol"));
}
