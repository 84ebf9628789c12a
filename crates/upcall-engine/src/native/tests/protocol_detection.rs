//! Those who have yet to say something.

use super::*;

/// A bench where inputs wait for a reader, for ever.
fn held() -> (Bench, EndpointId) {
    let mut bench = Bench::new(Settings { patience: Patience::Forever, ..settings() });
    let slow = bench.connect(ExpectedProtocol::Text, Transport::Tcp, true);
    while bench.engine.intake() != Intake::Only(slow) {
        bench.say("", &[b'x'; 10_000]);
        bench.ready(slow);
        bench.engine.blocked(bench.now, slow);
        bench.end_turn();
    }
    (bench, slow)
}

#[test]
fn whose_hello_waits_to_be_read_is_not_silent() {
    let (mut bench, slow) = held();
    let id = bench.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
    bench.later(Duration::from_millis(900));
    bench.engine.connection_lost(bench.now, slow, Reason::Reset);
    bench.later(Duration::from_millis(200));
    assert!(bench.engine.detected_native(bench.now, id), "it has had 200 ms");
    let silent = bench.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
    bench.later(Duration::from_millis(1_001));
    assert!(!bench.engine.detected_native(bench.now, silent));
}

#[test]
fn those_who_come_and_go_behind_a_silent_one_leave_nothing_behind() {
    let (mut bench, slow) = held();
    let silent = bench.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
    for _ in 0..1_000 {
        let id = bench.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
        bench.engine.connection_lost(bench.now, id, Reason::Reset);
        while bench.engine.next_event().is_some() {}
        bench.later(Duration::from_secs(1));
    }
    assert!(bench.engine.undecided.len() < 100, "{} are awaited", bench.engine.undecided.len());
    assert!(bench.engine.detected_native(bench.now, silent), "nothing was read all the while");
    bench.engine.connection_lost(bench.now, slow, Reason::Reset);
}

#[test]
fn who_came_first_is_decided_on_first() {
    let mut bench = Bench::new(settings());
    let first = bench.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
    bench.later(Duration::from_millis(600));
    let second = bench.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
    bench.later(Duration::from_millis(400));
    assert!(!bench.engine.detected_native(bench.now, first), "it speaks text");
    assert_eq!(bench.engine.deadline(), Some(Time(0) + Duration::from_millis(1_600)));
    assert!(bench.engine.detected_native(bench.now, second));
    assert_eq!(bench.engine.deadline(), Some(Time(0) + Duration::from_secs(11)), "its HELLO");
}

#[test]
fn whose_hello_waits_behind_many_inputs_has_its_place() {
    let mut bench = Bench::new(settings());
    let id = bench.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
    for _ in 0..30 {
        bench.say("", &[b'x'; 10_000]);
        bench.end_turn();
    }
    assert!(bench.engine.detected_native(bench.now, id), "it said so at once, but was not read before the others");
    let welcome = bench.engine.handle_hello(bench.now, id, &Hello::new(1), BOTH).unwrap();
    assert_eq!(welcome.start, 1, "its place is that of the accept");
    bench.end_turn();
    assert!(bench.read(id).len() > 300_000);
}

#[test]
fn who_turns_out_to_speak_text_far_behind_is_neither_waited_for_nor_cut_off() {
    let mut bench = Bench::new(Settings { patience: Patience::Limited(Duration::from_secs(60)), ..settings() });
    let id = bench.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
    for _ in 0..30 {
        bench.say("", &[b'x'; 10_000]);
        bench.end_turn();
    }
    bench.later(Duration::from_millis(1_001));
    assert!(bench.ready(id), "silence decided");
    bench.engine.blocked(bench.now, id);
    bench.end_turn();
    assert_eq!(bench.engine.intake(), Intake::Open);
    bench.engine.writable(id);
    assert_eq!(bench.read(id).len(), 30 * 10_001);
    assert_eq!(bench.engine.endpoint(id).map(|endpoint| endpoint.leaving()), Some(None));
}
