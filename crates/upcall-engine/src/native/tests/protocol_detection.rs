//! Endpoints that have not sent anything yet.

use super::*;

/// An engine where inputs are held for one reader, without end.
fn held() -> (World, EndpointId) {
    let mut world = World::new(Settings { patience: Patience::Forever, ..settings() });
    let slow = world.connect(ExpectedProtocol::Text, Transport::Tcp, true);
    while world.engine.intake() != Intake::Only(slow) {
        world.publish("", &[b'x'; 10_000]);
        world.ready(slow);
        world.engine.blocked(world.now, slow);
        world.end_turn();
    }
    (world, slow)
}

#[test]
fn an_endpoint_whose_hello_is_unread_is_not_silent() {
    let (mut world, slow) = held();
    let id = world.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
    world.later(Duration::from_millis(900));
    world.engine.connection_lost(world.now, slow, Reason::Reset);
    world.later(Duration::from_millis(200));
    assert!(world.engine.detected_native(world.now, id), "only 200 ms of its time have passed");
    let silent = world.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
    world.later(Duration::from_millis(1_001));
    assert!(!world.engine.detected_native(world.now, silent));
}

#[test]
fn endpoints_that_come_and_go_behind_a_silent_one_leave_no_entries() {
    let (mut world, slow) = held();
    let silent = world.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
    for _ in 0..1_000 {
        let id = world.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
        world.engine.connection_lost(world.now, id, Reason::Reset);
        while world.engine.next_event().is_some() {}
        world.later(Duration::from_secs(1));
    }
    assert!(world.engine.detection.undecided_entries() < 100, "{} entries", world.engine.detection.undecided_entries());
    assert!(world.engine.detected_native(world.now, silent), "nothing was read in the meantime");
    world.engine.connection_lost(world.now, slow, Reason::Reset);
}

#[test]
fn endpoints_are_decided_in_the_order_of_their_registration() {
    let mut world = World::new(settings());
    let first = world.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
    world.later(Duration::from_millis(600));
    let second = world.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
    world.later(Duration::from_millis(400));
    assert!(!world.engine.detected_native(world.now, first), "it speaks text");
    assert_eq!(world.engine.deadline(), Some(Time(0) + Duration::from_millis(1_600)));
    assert!(world.engine.detected_native(world.now, second));
    assert_eq!(world.engine.deadline(), Some(Time(0) + Duration::from_secs(11)), "its HELLO");
}

#[test]
fn a_hello_that_is_read_late_keeps_its_place() {
    let mut world = World::new(settings());
    let id = world.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
    for _ in 0..30 {
        world.publish("", &[b'x'; 10_000]);
        world.end_turn();
    }
    assert!(world.engine.detected_native(world.now, id), "it sent its HELLO at once, but others were read first");
    let welcome = world.engine.handle_hello(world.now, id, &Hello::new(1), BOTH).unwrap();
    assert_eq!(welcome.start, 1, "its place is that of the accept");
    world.end_turn();
    assert!(world.read(id).len() > 300_000);
}

#[test]
fn a_text_endpoint_that_is_decided_far_behind_catches_up() {
    let mut world = World::new(Settings { patience: Patience::Limited(Duration::from_secs(60)), ..settings() });
    let id = world.connect(ExpectedProtocol::Auto, Transport::Tcp, true);
    for _ in 0..30 {
        world.publish("", &[b'x'; 10_000]);
        world.end_turn();
    }
    world.later(Duration::from_millis(1_001));
    assert!(world.ready(id), "silence decided");
    world.engine.blocked(world.now, id);
    world.end_turn();
    assert_eq!(world.engine.intake(), Intake::Open);
    world.engine.writable(id);
    assert_eq!(world.read(id).len(), 30 * 10_001);
    assert_eq!(world.engine.endpoint(id).map(|endpoint| endpoint.leaving()), Some(None));
}
