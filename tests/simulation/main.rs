//! A seeded simulation of the engine: virtual clocks that jump, partial writes, stalls, closes, resets, policies, leases,
//! datagram endpoints that stall, and a network that loses, repeats and reorders what they send. After every step the
//! engine's invariants hold; at the end, every stream endpoint has got exactly what was due to it, or a named reason why
//! not; every datagram endpoint was sent what was due to it, in order, but for what was counted as skipped; and every
//! lease has ended on time.
//!
//! `UPCALLD_SIM_SEEDS=5000` runs that many seeds; `UPCALLD_SIM_SEED=17` replays one.

#![allow(clippy::unwrap_used)] // what is missing in the model of a test is a failure of the test

mod network;
mod world;

use upcalld::wire::reason::Reason;
use world::World;

const STEPS: usize = 400;

fn run(seed: u64) -> (u64, World) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.finish();
    (world.check(), world)
}

#[test]
fn nothing_is_lost_in_any_seed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("UPCALLD_SIM_SEED") {
        run(seed);
        return;
    }
    let (mut slow, mut waits, mut upcalls, mut skipped, mut leases) = (0, 0, 0, 0, 0);
    let (mut lost, mut repeated, mut overtaken) = (0, 0, 0);
    let seeds = number("UPCALLD_SIM_SEEDS").unwrap_or(200);
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        let Ok((_, world)) = outcome else { panic!("replay with UPCALLD_SIM_SEED={seed}") };
        slow += world.engine.counters().left(Reason::SlowConsumer);
        waits += world.engine.counters().waits;
        upcalls += world.engine.counters().upcalls;
        skipped += world.engine.counters().skipped;
        let network = &world.network;
        (lost, repeated, overtaken) = (lost + network.lost, repeated + network.repeated, overtaken + network.overtaken);
        leases += world.engine.counters().left(Reason::LeaseExpired);
    }
    println!(
        "{seeds} seeds: {upcalls} upcalls, inputs waited {waits} times, {slow} slow consumers, {skipped} skipped, \
         {leases} leases ended"
    );
    // A simulation in which nothing ever goes wrong would prove nothing.
    println!("datagrams of clients: {lost} lost, {repeated} repeated, {overtaken} overtaken");
    assert!(lost > seeds && repeated > seeds && overtaken > seeds);
    assert!(skipped > seeds && leases > seeds / 8);
    assert!(slow > seeds / 10 && waits > seeds / 4 && upcalls > seeds * 100);
}

#[test]
fn the_same_seed_makes_the_same_trace() {
    for seed in [0, 7, 4141] {
        assert_eq!(run(seed).0, run(seed).0);
    }
}
