//! Upcalls that arrive twice, late, or never, and what is reported for them.

use fastrand::Rng;
use proptest::prelude::*;

use super::*;

fn upcall(sequence: u64) -> Upcall {
    Upcall { sequence, source: 1, time: 0, topic: String::new(), payload: sequence.to_string().into_bytes() }
}

/// The reported events: upcalls by their sequence, gaps by their ends.
fn reported(events: Vec<Event>) -> Vec<(u64, u64)> {
    let of = |event| match event {
        Event::Upcall(upcall) => (upcall.sequence, upcall.sequence),
        Event::Gap { first, last, .. } => (first, last + 1_000_000),
        other => panic!("{other:?}"),
    };
    events.into_iter().map(of).collect()
}

#[test]
fn a_gap_does_not_drop_early_upcalls() {
    let (mut order, mut events) = (UpcallOrder::new(false, 2), Vec::new());
    let mut out = |event| events.push(event);
    order.upcall(upcall(4), 3, &mut out);
    order.upcall(upcall(9), 7, &mut out);
    order.gap(8, 8, Loss::TooLarge, &mut out);
    order.gap(3, 7, Loss::SlowConsumer, &mut out);
    order.gap(3, 7, Loss::SlowConsumer, &mut out);
    order.upcall(upcall(5), 4, &mut out);
    let gap = |first: u64, last: u64| (first, last + 1_000_000);
    assert_eq!(reported(events), [gap(3, 3), (4, 4), gap(5, 7), gap(8, 8), (9, 9)]);
}

#[test]
fn a_stream_has_no_holes() {
    let mut order = UpcallOrder::new(true, 2);
    let mut out = |_| {};
    assert_eq!(order.upcall(upcall(3), 2, &mut out), Accepted::Yes);
    assert_eq!(order.upcall(upcall(3), 2, &mut out), Accepted::Violation);
    assert_eq!(order.upcall(upcall(6), 5, &mut out), Accepted::Violation);
    assert_eq!(order.gap(5, 6, Loss::Evicted, &mut out), Accepted::Violation);
    assert_eq!(order.gap(4, 6, Loss::Evicted, &mut out), Accepted::Yes);
    assert_eq!(order.upcall(upcall(9), 6, &mut out), Accepted::Yes);
}

#[test]
fn sequences_beyond_32_bits_are_distinguished() {
    let mut order = UpcallOrder::new(false, (1 << 32) - 1);
    let mut events = Vec::new();
    order.upcall(upcall((1 << 32) + 1), 0, &mut |event| events.push(event));
    order.upcall(upcall(1 << 32), u32::MAX, &mut |event| events.push(event));
    assert_eq!(reported(events), [(1 << 32, 1 << 32), ((1 << 32) + 1, (1 << 32) + 1)]);
}

#[test]
fn a_new_session_reports_what_is_missing() {
    let (mut order, mut events) = (UpcallOrder::new(true, 7), Vec::new());
    order.begin(10, Some(7), &mut |event| events.push(event));
    assert_eq!(order.upcall(upcall(10), 9, &mut |event| events.push(event)), Accepted::Yes);
    // With history, earlier upcalls arrive again, and are not reported twice.
    order.begin(9, Some(10), &mut |event| events.push(event));
    order.upcall(upcall(10), 8, &mut |event| events.push(event));
    order.upcall(upcall(11), 10, &mut |event| events.push(event));
    assert_eq!(reported(events), [(8, 1_000_009), (10, 10), (11, 11)]);
}

#[test]
fn a_session_without_deliveries_is_missing_from_its_start() {
    let (mut order, mut events) = (UpcallOrder::new(true, 0), Vec::new());
    order.begin(1, None, &mut |event| events.push(event));
    order.begin(5, Some(0), &mut |event| events.push(event));
    assert_eq!(reported(events), [(1, 1_000_004)]);
}

proptest! {
    /// Upcalls arrive twice, late, or not at all until their gap does. Each due sequence is reported once, in order.
    #[test]
    fn every_sequence_is_reported_once(
        due in prop::collection::btree_set(1u64..60, 1..40),
        lost in prop::collection::btree_set(1u64..60, 0..20),
        seed: u64,
    ) {
        let mut random = Rng::with_seed(seed);
        let due: Vec<u64> = due.into_iter().collect();
        let mut packets = Vec::new();
        let mut prev = 0;
        for &sequence in &due {
            let gone = lost.contains(&sequence);
            if !gone || random.bool() {
                packets.push((sequence, prev, false));
            }
            if gone {
                packets.push((sequence, prev, true));
            }
            prev = sequence;
        }
        packets.extend(packets.clone());
        random.shuffle(&mut packets);
        let (mut order, mut events) = (UpcallOrder::new(false, 0), Vec::new());
        for (sequence, prev, gap) in packets {
            let out = &mut |event| events.push(event);
            let accepted = if gap {
                order.gap(prev + 1, sequence, Loss::SlowConsumer, out)
            } else {
                order.upcall(upcall(sequence), prev as u32, out)
            };
            prop_assert_eq!(accepted, Accepted::Yes);
        }
        let mut next = 1;
        let mut covered = std::collections::BTreeSet::new();
        for event in events {
            let (first, last) = match event {
                Event::Upcall(upcall) => (upcall.sequence, upcall.sequence),
                Event::Gap { first, last, .. } => (first, last),
                other => panic!("{other:?}"),
            };
            prop_assert!(first >= next && last >= first);
            next = last + 1;
            covered.extend(first..=last);
        }
        prop_assert!(due.iter().all(|sequence| covered.contains(sequence)));
    }
}
