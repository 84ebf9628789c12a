//! Endpoints that start behind, because they resume their session or request history.

use super::*;

const HISTORY: Terms = Terms { history: true, ..BOTH };

/// The size of one input, in bytes.
const SIZE: usize = 10_000;

/// An engine with `count` inputs in the log.
fn after(count: usize, settings: Settings) -> World {
    let mut world = World::new(settings);
    world.publish_many(count);
    world
}

fn patient() -> Settings {
    Settings { patience: Patience::Limited(Duration::from_secs(1)), ..settings() }
}

fn since(sequence: u64) -> Hello<'static> {
    Hello { since: Some(sequence), ..Hello::new(1) }
}

impl World {
    fn publish_many(&mut self, count: usize) {
        for _ in 0..count {
            self.publish("", &[b'x'; SIZE]);
        }
        self.end_turn();
    }

    /// The socket of an endpoint accepts nothing.
    fn stalls(&mut self, id: EndpointId) {
        if self.ready(id) {
            self.engine.blocked(self.now, id);
        }
        self.end_turn();
    }

    /// The socket of an endpoint accepts `count` bytes, and no more.
    fn takes(&mut self, id: EndpointId, mut count: usize) {
        self.engine.writable(id);
        self.ready(id);
        while count > 0 {
            let written = count.min(self.engine.slices(id).bytes());
            count -= written;
            if self.engine.advance(self.now, id, written) == Progress::Done {
                return self.end_turn();
            }
        }
        self.engine.blocked(self.now, id);
        self.end_turn();
    }

    fn reason(&self, id: EndpointId) -> Option<Reason> {
        self.engine.endpoint(id).and_then(|endpoint| endpoint.leaving())
    }
}

#[test]
fn no_inputs_are_held_for_clients_that_request_history_again_and_again() {
    let mut world = after(60, patient());
    let mut all = Vec::new();
    for _ in 0..50 {
        let (id, _) = world.join(Transport::Tcp, &since(1), HISTORY);
        world.stalls(id);
        assert_eq!(world.engine.intake(), Intake::Open);
        all.push(id);
    }
    world.later(Duration::from_secs(2));
    assert_eq!(world.engine.counters().waits, 0);
    // More than max_behind is not too far for them: the log still has it.
    assert!(all.iter().all(|id| world.reason(*id).is_none()));
    // Their own inputs are parked as long as they read.
    assert_eq!(world.engine.request_input(world.now, all[0]), InputTurn::Parked);
}

#[test]
fn an_endpoint_that_started_behind_is_acted_on_at_the_end_of_the_log() {
    for policy in [Policy::Disconnect, Policy::Skip] {
        let mut world = after(60, Settings { policy, ..patient() });
        let (id, _) = world.join(Transport::Tcp, &since(1), HISTORY);
        world.stalls(id);
        let mut count = 60;
        while world.engine.oldest_sequence() == 1 {
            assert_eq!(world.reason(id), None, "{count} behind, and the log has it all");
            world.publish_many(1);
            count += 1;
            world.end_turn();
        }
        world.engine.writable(id);
        let names = names(&world.read(id));
        match policy {
            Policy::Disconnect => assert_eq!(names, ["WELCOME 1", "BYE slow_consumer"]),
            // The input that displaced the first page is due to it.
            Policy::Skip => {
                assert_eq!(names[1..], [format!("GAP 1-{} slow_consumer", count - 1), format!("UPCALL {count}")]);
            }
        }
    }
}

#[test]
fn an_endpoint_that_has_caught_up_is_treated_like_every_other() {
    let mut world = after(60, patient());
    let (id, _) = world.join(Transport::Tcp, &since(1), HISTORY);
    world.takes(id, 56 * (SIZE + 32));
    let head = world.engine.log.head();
    while world.engine.intake() != Intake::Only(id) {
        assert!(world.engine.log.head() - head < MAX_BEHIND, "no inputs are held for it");
        world.publish_many(1);
        world.end_turn();
    }
    // With endless patience, no endpoint may lose anything: inputs are held for it from the beginning.
    let mut world = after(60, Settings { patience: Patience::Forever, ..settings() });
    let (id, _) = world.join(Transport::Tcp, &since(1), HISTORY);
    world.stalls(id);
    assert_eq!(world.engine.intake(), Intake::Only(id));
    world.engine.reconfigure(world.now, patient());
    world.stalls(id);
    world.later(Duration::from_secs(2));
    assert_eq!(world.engine.intake(), Intake::Open);
}

#[test]
fn a_change_of_settings_decides_again_which_endpoints_catch_up() {
    let mut world = after(60, patient());
    let (id, _) = world.join(Transport::Tcp, &since(1), HISTORY);
    world.stalls(id);
    world.engine.reconfigure(world.now, Settings { patience: Patience::Forever, ..settings() });
    world.end_turn();
    assert_eq!(world.engine.intake(), Intake::Only(id));
}

/// Over datagrams every window takes a round trip, and the patience may be zero.
#[test]
fn a_session_that_is_resumed_from_far_behind_over_datagrams_gets_everything() {
    let mut world = World::new(settings());
    let (first, welcome) = world.join(Transport::Udp, &Hello::new(1), BOTH);
    world.engine.connection_lost(world.now, first, Reason::Reset);
    world.publish_many(60);
    let (id, _) = world.join(Transport::Udp, &resume(&welcome, 0), BOTH);
    let mut got = Vec::new();
    for _ in 0..100 {
        for (number, frames) in world.receive(id, 65_507) {
            got.extend(names(&frames));
            let bitmap = u64::MAX.checked_shr(65 - number.min(65) as u32).unwrap_or(0);
            world.engine.handle_frame(world.now, id, &Frame::Ack(Ack { largest: number, bitmap }));
        }
        assert_eq!(world.engine.intake(), Intake::Open);
        world.later(Duration::from_millis(100));
        // Other clients continue to send.
        if world.engine.next_sequence() < 80 {
            world.publish_many(1);
        }
    }
    assert_eq!(got, (1..80).map(|sequence| format!("UPCALL {sequence}")).collect::<Vec<_>>());
}
