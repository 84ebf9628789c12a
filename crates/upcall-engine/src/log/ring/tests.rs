//! The guarantees of a ring: order, and that any pattern of partial writes delivers what is due.

use proptest::prelude::*;

use super::*;
use crate::log::PAGE;

fn append(ring: &mut Ring, payload: &[u8], audience: Audience, source: u64) -> u64 {
    if ring.needs_page(payload.len()) {
        ring.add_page(|next, head| Page::new(PAGE, next, head));
    }
    let mut pen = ring.pen(audience, source);
    pen.push(payload.len()).copy_from_slice(payload);
    let written = pen.written();
    ring.note(written, audience);
    ring.next() - 1
}

fn written(log: &Ring, reading: &Reading<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut reading = *reading;
    loop {
        let mut slices = Slices::new();
        let whole = log.slices(&reading, &mut slices);
        bytes.extend(slices.iter().flat_map(|slice| slice.to_vec()));
        reading.cursor = log.advance(&reading, slices.bytes()).cursor;
        if whole {
            assert_eq!(reading.cursor, Cursor::at(reading.until.max(reading.cursor.sequence)));
            return bytes;
        }
    }
}

#[test]
fn records_without_payload_are_passed() {
    let mut log = Ring::new();
    for _ in 0..3 {
        append(&mut log, b"", Audience::All, 1);
    }
    let reading = Reading { cursor: Cursor::at(1), until: 4, reader: 9, filters: None, earlier: &[] };
    assert_eq!(log.advance(&reading, 5), Advanced { cursor: Cursor::at(4), completed: 3, last: 3, rest: 5 });
}

#[test]
fn runs_are_adjacent_records_of_one_size() {
    let mut log = Ring::new();
    for (payload, audience) in [
        ("aa", Audience::All),
        ("bb", Audience::All),
        ("c", Audience::All),
        ("x", Audience::Others),
        ("d", Audience::All),
    ] {
        append(&mut log, payload.as_bytes(), audience, 9);
    }
    let mut reading = Reading { cursor: Cursor::at(1), until: log.next(), reader: 9, filters: None, earlier: &[] };
    let mut runs = Vec::new();
    while let Some((bytes, count)) = log.run(&reading, 1_000, 64) {
        runs.push((bytes, count));
        let (cursor, passed) = log.pass(&reading, count);
        assert_eq!(passed, count);
        reading.cursor = cursor;
    }
    assert_eq!(runs, [(&b"aabb"[..], 2), (b"c", 1), (b"d", 1)]);
    assert_eq!(reading.cursor, Cursor::at(log.next()));
    let limited = Reading { cursor: Cursor::at(1), ..reading };
    assert_eq!(log.run(&limited, 3, 64), Some((&b"aa"[..], 1)));
    assert_eq!(log.run(&limited, 1_000, 1), Some((&b"aa"[..], 1)));
}

fn audience() -> impl Strategy<Value = Audience> {
    prop_oneof![Just(Audience::All), Just(Audience::Others), Just(Audience::Sender)]
}

proptest! {
    /// Whatever the sizes of the writes, a reader receives exactly what is due to it, in order.
    #[test]
    fn any_partial_writes_deliver_what_is_due(
        records in prop::collection::vec((0usize..40_000, audience(), 0u64..3), 1..80),
        only_all: bool,
        from in 1u64..80,
        writes in prop::collection::vec(0usize..200_000, 1..60),
    ) {
        let mut log = Ring::new();
        let (mut expected, mut due) = (Vec::new(), 0);
        let from = from.min(records.len() as u64 + 1);
        for (index, (length, audience, source)) in records.iter().enumerate() {
            let audience = if only_all { Audience::All } else { *audience };
            let payload: Vec<u8> = (0..*length).map(|byte| (byte + index) as u8).collect();
            append(&mut log, &payload, audience, *source);
            let is_due = match audience { Audience::All => true, Audience::Others => *source != 1, Audience::Sender => *source == 1 };
            if is_due && index as u64 + 1 >= from {
                expected.extend(payload);
                due += 1;
            }
        }
        log.check_invariants();
        let mut reading = Reading { cursor: Cursor::at(from), until: log.next(), reader: 1, filters: None, earlier: &[] };
        prop_assert_eq!(written(&log, &reading), expected.clone());
        let (mut got, mut completed) = (Vec::new(), 0);
        for write in writes.into_iter().chain(std::iter::repeat(100_000)) {
            let mut slices = Slices::new();
            let whole = log.slices(&reading, &mut slices);
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let write = write.min(bytes.len());
            got.extend_from_slice(&bytes[..write]);
            let before = log.position(reading.cursor);
            let advanced = log.advance(&reading, write);
            prop_assert!(log.position(advanced.cursor) >= before + write as u64);
            prop_assert_eq!(advanced.rest, 0);
            reading.cursor = advanced.cursor;
            completed += advanced.completed;
            if whole && write == bytes.len() {
                break;
            }
        }
        prop_assert_eq!(reading.cursor, Cursor::at(log.next()));
        prop_assert_eq!(got, expected);
        prop_assert_eq!(completed, due);
    }
}
