//! A seeded simulation of the engine: virtual clocks that jump, partial writes, stalls, closes, resets, policies, leases,
//! datagram endpoints that stall, and a network that loses, repeats and reorders what they send. After every step the
//! engine's invariants hold; at the end, every stream endpoint has got exactly what was due to it, or a named reason why
//! not; every datagram endpoint was sent what was due to it, in order, but for what was counted as skipped; and every
//! lease has ended on time.
//!
//! `UPCALLD_SIM_SEEDS=5000` runs that many seeds; `UPCALLD_SIM_SEED=17` replays one.

#![allow(clippy::unwrap_used)] // what is missing in the model of a test is a failure of the test

mod native;
mod network;
mod simulation;
mod text;

use std::collections::BTreeMap;

use simulation::World;
use upcall_wire::reason::Reason;

const STEPS: usize = 400;

fn run(seed: u64) -> (u64, World) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    (world.finish(), world)
}

/// What happened, by name.
#[derive(Default)]
struct Sums(BTreeMap<&'static str, u64>);

impl Sums {
    fn add(&mut self, world: &World) {
        let native = &world.natives.figures;
        let (up, down) = (&world.natives.up, &world.natives.down);
        let left = |reason| world.counted(|counters| counters.left(reason));
        for (name, count) in [
            ("upcalls written or acknowledged", world.counted(|counters| counters.upcalls)),
            ("times that inputs waited", world.counted(|counters| counters.waits)),
            ("slow consumers", left(Reason::SlowConsumer)),
            ("leases that ended", left(Reason::LeaseExpired)),
            ("skipped, of text datagrams", world.counted(|counters| counters.skipped)),
            ("renewals and inputs of text clients lost", world.network.lost),
            ("… repeated", world.network.repeated),
            ("… overtaken", world.network.overtaken),
            ("restarts of the daemon", world.past.len() as u64),
            ("native upcalls", native.upcalls),
            ("native gaps", native.gaps),
            ("native datagrams", up.sent + down.sent),
            ("… lost", up.lost + down.lost),
            ("… repeated by the network", up.repeated + down.repeated),
            ("… overtaken by another", up.overtaken + down.overtaken),
            ("… refused by a full socket", native.unsent),
            ("native welcomes", native.welcomes),
            ("… to a session that was resumed", native.resumes),
            ("… to a program whose session was gone", native.sessions_lost),
            ("… refused", native.refused),
            ("sessions superseded", native.superseded),
            ("addresses moved", native.moves),
            ("crashes of native clients", native.crashes),
            ("native endpoints that began far behind", native.late),
            ("… overrun by the log before they caught up", native.overrun),
            ("receipts", native.receipts),
            ("… for a repeat", native.repeats),
            ("inputs of unknown fate", native.unknown),
            ("changes of filters", native.subscribed),
        ] {
            *self.0.entry(name).or_default() += count;
        }
    }
}

#[test]
fn nothing_is_lost_in_any_seed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("UPCALLD_SIM_SEED") {
        run(seed);
        return;
    }
    let mut sums = Sums::default();
    let first = number("UPCALLD_SIM_FIRST").unwrap_or(0);
    let seeds = number("UPCALLD_SIM_SEEDS").unwrap_or(200);
    for seed in first..first + seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        let Ok((_, world)) = outcome else { panic!("replay with UPCALLD_SIM_SEED={seed}") };
        sums.add(&world);
    }
    println!("{seeds} seeds:");
    for (name, count) in &sums.0 {
        println!("{count:>12} {name}");
    }
    // A simulation in which nothing ever goes wrong would prove nothing.
    for (name, count) in sums.0 {
        assert!(count > seeds / 20, "{name}: {count}");
    }
}

#[test]
fn the_same_seed_makes_the_same_trace() {
    for seed in [0, 7, 4141] {
        assert_eq!(run(seed).0, run(seed).0);
    }
}
