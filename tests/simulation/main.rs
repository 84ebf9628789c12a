//! A seeded simulation of the engine: virtual clocks that jump, partial writes, stalls, closes, resets, slow
//! policies, leases, stalled datagram endpoints, and a network that loses, repeats and reorders datagrams. The
//! engine's invariants are checked after every step. At the end, every stream endpoint must have received exactly
//! what was due to it, or have left for a named reason; every datagram endpoint must have been sent what was due to
//! it, in order, except what was counted as skipped; and every lease must have ended on time.
//!
//! `UPCALLD_SIM_SEEDS=5000` runs 5,000 seeds, from `UPCALLD_SIM_FIRST` on (default 0); `UPCALLD_SIM_SEED=17` replays
//! one.

#![allow(clippy::unwrap_used)] // in a test, a missing value is a failure

mod ending;
mod input;
mod native;
mod network;
mod simulation;
mod steps;
mod text;
mod turn;

use std::collections::BTreeMap;

use upcall_wire::reason::Reason;

use simulation::Simulation;

/// Random steps before the end of a simulation.
const STEPS: usize = 400;

/// Runs one seed. Returns the trace.
fn run(seed: u64) -> (u64, Simulation) {
    let mut simulation = Simulation::new(seed);
    for _ in 0..STEPS {
        simulation.step();
    }
    (simulation.finish(), simulation)
}

/// How often each thing happened, by name.
#[derive(Default)]
struct Sums(BTreeMap<&'static str, u64>);

impl Sums {
    fn add(&mut self, simulation: &Simulation) {
        let native = &simulation.native.counts;
        let (up, down) = (&simulation.native.up, &simulation.native.down);
        let left = |reason| simulation.counted(|counters| counters.left(reason));
        for (name, count) in [
            ("upcalls written or acknowledged", simulation.counted(|counters| counters.upcalls)),
            ("times that inputs were held", simulation.counted(|counters| counters.waits)),
            ("slow consumers", left(Reason::SlowConsumer)),
            ("leases that ended", left(Reason::LeaseExpired)),
            ("text datagrams skipped", simulation.counted(|counters| counters.skipped)),
            ("text datagrams lost", simulation.network.lost),
            ("text datagrams repeated", simulation.network.repeated),
            ("text datagrams overtaken", simulation.network.overtaken),
            ("restarts of the daemon", simulation.past.len() as u64),
            ("native upcalls", native.upcalls),
            ("native gaps", native.gaps),
            ("native datagrams", up.sent + down.sent),
            ("native datagrams lost", up.lost + down.lost),
            ("native datagrams repeated", up.repeated + down.repeated),
            ("native datagrams overtaken", up.overtaken + down.overtaken),
            ("native datagrams refused by a full socket", native.unsent),
            ("native welcomes", native.welcomes),
            ("native welcomes to a resumed session", native.resumes),
            ("native welcomes to a new session in place of a lost one", native.sessions_lost),
            ("native clients refused", native.refused),
            ("sessions superseded", native.superseded),
            ("addresses moved", native.moves),
            ("crashes of native clients", native.crashes),
            ("native endpoints that started far behind", native.started_behind),
            ("native endpoints overrun while catching up", native.overrun),
            ("receipts", native.receipts),
            ("receipts for a repeat", native.repeats),
            ("inputs whose outcome is unknown", native.unknown),
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
        let Ok((_, simulation)) = outcome else { panic!("replay with UPCALLD_SIM_SEED={seed}") };
        sums.add(&simulation);
    }
    println!("{seeds} seeds:");
    for (name, count) in &sums.0 {
        println!("{count:>12} {name}");
    }
    // A simulation in which nothing goes wrong would prove nothing.
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
