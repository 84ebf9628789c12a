//! Patience: a budget that no timing of a reader can exceed.

use std::time::Duration;

use proptest::prelude::*;

use super::laggards::Laggards;
use super::*;
use crate::id::EndpointId;
use crate::settings::Patience;

const LIMIT: Duration = Duration::from_secs(1);
const MAX_BEHIND: u64 = 1 << 20;

/// Holds inputs for `time`, in which `read` bytes are read. Returns whether the patience was used up.
fn hold(laggards: &mut Laggards, slow: &mut Slow, now: &mut Time, time: Duration, read: u64) -> bool {
    let id = EndpointId::default();
    laggards.hold_for(id, slow, slow.position, *now);
    *now = *now + time;
    let position = slow.position + read;
    laggards.place(id, slow, Lag::HoldsInputs, position);
    let used_up = slow.patience_ends(LIMIT, MAX_BEHIND, *now).is_none();
    laggards.release(id, slow, Lag::Behind, Patience::Limited(LIMIT), MAX_BEHIND, *now);
    used_up
}

fn fresh() -> (Laggards, Slow, Time) {
    (Laggards::default(), Slow::new(Time(0)), Time(0))
}

#[test]
fn inputs_are_held_for_a_stalled_endpoint_once() {
    let (mut laggards, mut slow, mut now) = fresh();
    assert!(!hold(&mut laggards, &mut slow, &mut now, LIMIT / 2, 0));
    assert!(!hold(&mut laggards, &mut slow, &mut now, LIMIT / 4, 0));
    assert!(hold(&mut laggards, &mut slow, &mut now, LIMIT / 2, 0));
    now = now + REFILL / 2;
    assert!(!hold(&mut laggards, &mut slow, &mut now, LIMIT / 3, 0), "half of it is back");
    assert!(hold(&mut laggards, &mut slow, &mut now, LIMIT / 3, 0));
}

#[test]
fn inputs_are_held_for_a_healthy_reader_without_a_time_limit() {
    let (mut laggards, mut slow, mut now) = fresh();
    for _ in 0..10_000 {
        assert!(!hold(&mut laggards, &mut slow, &mut now, LIMIT / 4, MAX_BEHIND / 4));
    }
    assert_eq!(slow.used, Duration::ZERO);
}

#[test]
fn no_inputs_are_held_without_patience() {
    let slow = Slow::new(Time(0));
    assert_eq!(slow.patience_ends(Duration::ZERO, MAX_BEHIND, Time(0)), None);
}

proptest! {
    /// Whatever the timing of a reader, inputs are held for it no longer than its patience, what has refilled of it,
    /// and the time that a healthy reader needs for the same bytes.
    #[test]
    fn no_timing_holds_the_service_longer_than_the_budget(
        episodes in prop::collection::vec((0u64..2_000, 0u64..MAX_BEHIND, 0u64..20_000), 1..100)
    ) {
        let (mut laggards, mut slow, mut now) = fresh();
        let (mut held, mut read_all) = (Duration::ZERO, 0);
        for (milliseconds, read, pause) in episodes {
            slow.hold = Hold { since: now, position: slow.position, distance: 0 };
            let Some(deadline) = slow.patience_ends(LIMIT, MAX_BEHIND, now) else {
                now = now + Duration::from_millis(pause);
                continue;
            };
            // The engine stops holding at the deadline, or later by what was read in the meantime.
            let longest = deadline.since(now) + LIMIT.mul_f64(read as f64 / MAX_BEHIND as f64);
            let time = Duration::from_millis(milliseconds).min(longest);
            hold(&mut laggards, &mut slow, &mut now, time, read);
            held += time;
            read_all += read;
            now = now + Duration::from_millis(pause);
        }
        let refilled = LIMIT.mul_f64(now.since(Time(0)).as_secs_f64() / REFILL.as_secs_f64());
        let healthy = LIMIT.mul_f64(read_all as f64 / MAX_BEHIND as f64);
        prop_assert!(held <= LIMIT + refilled + healthy + Duration::from_millis(1));
    }
}
