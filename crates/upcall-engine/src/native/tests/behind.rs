//! Those who begin behind, because they resume their session or ask for what was said before.

use super::*;
use crate::InputTurn;

const HISTORY: Terms = Terms { history: true, ..BOTH };

/// So much is said in one input.
const SIZE: usize = 10_000;

/// A bench where `count` inputs were said.
fn after(count: usize, settings: Settings) -> Bench {
    let mut bench = Bench::new(settings);
    bench.say_much(count);
    bench
}

fn patient() -> Settings {
    Settings { patience: Patience::Limited(Duration::from_secs(1)), ..settings() }
}

fn since(sequence: u64) -> Hello<'static> {
    Hello { since: Some(sequence), ..Hello::new(1) }
}

impl Bench {
    fn say_much(&mut self, count: usize) {
        for _ in 0..count {
            self.say("", &[b'x'; SIZE]);
        }
        self.end_turn();
    }

    /// The socket of an endpoint takes nothing.
    fn stalls(&mut self, id: EndpointId) {
        if self.ready(id) {
            self.engine.blocked(self.now, id);
        }
        self.end_turn();
    }

    /// A stream takes this much, and no more.
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
fn nobody_waits_for_a_stranger_who_asks_for_the_past_again_and_again() {
    let mut bench = after(60, patient());
    let mut all = Vec::new();
    for _ in 0..50 {
        let (id, _) = bench.join(Transport::Tcp, &since(1), HISTORY);
        bench.stalls(id);
        assert_eq!(bench.engine.intake(), Intake::Open);
        all.push(id);
    }
    bench.later(Duration::from_secs(2));
    assert_eq!(bench.engine.counters().waits, 0);
    // More than max_behind is not too much for them: the log still has it.
    assert!(all.iter().all(|id| bench.reason(*id).is_none()));
    // Not even its own inputs are lost meanwhile: they wait for it as long as it reads.
    assert_eq!(bench.engine.request_input(bench.now, all[0]), InputTurn::Parked);
}

#[test]
fn one_that_began_behind_is_cut_off_by_the_end_of_the_log() {
    for policy in [Policy::Disconnect, Policy::Skip] {
        let mut bench = after(60, Settings { policy, ..patient() });
        let (id, _) = bench.join(Transport::Tcp, &since(1), HISTORY);
        bench.stalls(id);
        let mut said = 60;
        while bench.engine.oldest_sequence() == 1 {
            assert_eq!(bench.reason(id), None, "behind {said}, and the log has it all");
            bench.say_much(1);
            said += 1;
            bench.end_turn();
        }
        bench.engine.writable(id);
        let names = names(&bench.read(id));
        match policy {
            Policy::Disconnect => assert_eq!(names, ["WELCOME 1", "BYE slow_consumer"]),
            // What has displaced the first page is due to it again.
            Policy::Skip => {
                assert_eq!(names[1..], [format!("GAP 1-{} slow_consumer", said - 1), format!("UPCALL {said}")]);
            }
        }
    }
}

#[test]
fn one_that_has_caught_up_is_one_of_the_others() {
    let mut bench = after(60, patient());
    let (id, _) = bench.join(Transport::Tcp, &since(1), HISTORY);
    bench.takes(id, 56 * (SIZE + 32));
    let head = bench.engine.log.head();
    while bench.engine.intake() != Intake::Only(id) {
        assert!(bench.engine.log.head() - head < MAX_BEHIND, "nobody waits for it");
        bench.say_much(1);
        bench.end_turn();
    }
    // Where patience is for ever, nobody is to lose anything: inputs wait for it from the beginning.
    let mut bench = after(60, Settings { patience: Patience::Forever, ..settings() });
    let (id, _) = bench.join(Transport::Tcp, &since(1), HISTORY);
    bench.stalls(id);
    assert_eq!(bench.engine.intake(), Intake::Only(id));
    bench.engine.reconfigure(bench.now, patient());
    bench.stalls(id);
    bench.later(Duration::from_secs(2));
    assert_eq!(bench.engine.intake(), Intake::Open);
}

#[test]
fn a_change_of_settings_decides_anew_who_catches_up() {
    let mut bench = after(60, patient());
    let (id, _) = bench.join(Transport::Tcp, &since(1), HISTORY);
    bench.stalls(id);
    bench.engine.reconfigure(bench.now, Settings { patience: Patience::Forever, ..settings() });
    bench.end_turn();
    assert_eq!(bench.engine.intake(), Intake::Only(id));
}

/// Over datagrams it takes a round trip for every window, and patience may be nothing.
#[test]
fn a_session_that_is_resumed_from_far_behind_over_datagrams_gets_everything() {
    let mut bench = Bench::new(settings());
    let (first, welcome) = bench.join(Transport::Udp, &Hello::new(1), BOTH);
    bench.engine.connection_lost(bench.now, first, Reason::Reset);
    bench.say_much(60);
    let (id, _) = bench.join(Transport::Udp, &resume(&welcome, 0), BOTH);
    let mut got = Vec::new();
    for _ in 0..100 {
        for (number, frames) in bench.receive(id, 65_507) {
            got.extend(names(&frames));
            let bitmap = u64::MAX.checked_shr(65 - number.min(65) as u32).unwrap_or(0);
            bench.engine.handle_frame(bench.now, id, &Frame::Ack(Ack { largest: number, bitmap }));
        }
        assert_eq!(bench.engine.intake(), Intake::Open);
        bench.later(Duration::from_millis(100));
        // Others go on talking.
        if bench.engine.next_sequence() < 80 {
            bench.say_much(1);
        }
    }
    assert_eq!(got, (1..80).map(|sequence| format!("UPCALL {sequence}")).collect::<Vec<_>>());
}
