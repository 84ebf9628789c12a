//! Upcalls that come twice, late, or never: what is told of them.

use super::*;
use fastrand::Rng;
use proptest::prelude::*;

fn upcall(sequence: u64) -> Upcall {
    Upcall { sequence, source: 1, time: 0, topic: String::new(), payload: sequence.to_string().into_bytes() }
}

/// What was handed on: upcalls by their sequence, gaps by their ends.
fn told(events: Vec<Event>) -> Vec<(u64, u64)> {
    let of = |event| match event {
        Event::Upcall(upcall) => (upcall.sequence, upcall.sequence),
        Event::Gap { first, last, .. } => (first, last + 1_000_000),
        other => panic!("{other:?}"),
    };
    events.into_iter().map(of).collect()
}

#[test]
fn a_gap_spares_what_came_early() {
    let (mut chain, mut events) = (Chain::new(false, 2), Vec::new());
    let mut out = |event| events.push(event);
    chain.upcall(upcall(4), 3, &mut out);
    chain.upcall(upcall(9), 7, &mut out);
    chain.gap(8, 8, Loss::TooLarge, &mut out);
    chain.gap(3, 7, Loss::SlowConsumer, &mut out);
    chain.gap(3, 7, Loss::SlowConsumer, &mut out);
    chain.upcall(upcall(5), 4, &mut out);
    let gap = |first: u64, last: u64| (first, last + 1_000_000);
    assert_eq!(told(events), [gap(3, 3), (4, 4), gap(5, 7), gap(8, 8), (9, 9)]);
}

#[test]
fn a_stream_has_no_holes() {
    let mut chain = Chain::new(true, 2);
    let mut out = |_| {};
    assert_eq!(chain.upcall(upcall(3), 2, &mut out), Taken::Yes);
    assert_eq!(chain.upcall(upcall(3), 2, &mut out), Taken::Broken);
    assert_eq!(chain.upcall(upcall(6), 5, &mut out), Taken::Broken);
    assert_eq!(chain.gap(5, 6, Loss::Evicted, &mut out), Taken::Broken);
    assert_eq!(chain.gap(4, 6, Loss::Evicted, &mut out), Taken::Yes);
    assert_eq!(chain.upcall(upcall(9), 6, &mut out), Taken::Yes);
}

#[test]
fn sequences_beyond_32_bits_are_told_apart() {
    let mut chain = Chain::new(false, (1 << 32) - 1);
    let mut events = Vec::new();
    chain.upcall(upcall((1 << 32) + 1), 0, &mut |event| events.push(event));
    chain.upcall(upcall(1 << 32), u32::MAX, &mut |event| events.push(event));
    assert_eq!(told(events), [(1 << 32, 1 << 32), ((1 << 32) + 1, (1 << 32) + 1)]);
}

#[test]
fn a_new_session_says_what_it_missed() {
    let (mut chain, mut events) = (Chain::new(true, 7), Vec::new());
    chain.begin(10, Some(7), &mut |event| events.push(event));
    assert_eq!(chain.upcall(upcall(10), 9, &mut |event| events.push(event)), Taken::Yes);
    // With history, what was said before comes again, and is not said twice.
    chain.begin(9, Some(10), &mut |event| events.push(event));
    chain.upcall(upcall(10), 8, &mut |event| events.push(event));
    chain.upcall(upcall(11), 10, &mut |event| events.push(event));
    assert_eq!(told(events), [(8, 1_000_009), (10, 10), (11, 11)]);
}

#[test]
fn a_session_of_which_nothing_came_is_missing_from_its_start() {
    let (mut chain, mut events) = (Chain::new(true, 0), Vec::new());
    chain.begin(1, None, &mut |event| events.push(event));
    chain.begin(5, Some(0), &mut |event| events.push(event));
    assert_eq!(told(events), [(1, 1_000_004)]);
}

proptest! {
    /// Whatever comes twice, late, or never until its gap is announced: each due sequence is told once, in order.
    #[test]
    fn every_sequence_is_told_once(
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
        let (mut chain, mut events) = (Chain::new(false, 0), Vec::new());
        for (sequence, prev, gap) in packets {
            let out = &mut |event| events.push(event);
            let taken = if gap {
                chain.gap(prev + 1, sequence, Loss::SlowConsumer, out)
            } else {
                chain.upcall(upcall(sequence), prev as u32, out)
            };
            prop_assert_eq!(taken, Taken::Yes);
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
