//! The guarantees of the log: its memory is bounded, and both renditions have the same sequences.

use proptest::prelude::*;

use super::*;

const SIZE: usize = 4 * PAGE;

#[test]
fn the_memory_is_bounded_whatever_the_messages_are() {
    for payload in [0, 1, 64, 60 * 1024, PAGE - HEADER, PAGE, SIZE / 4] {
        for has_text in [false, true] {
            let mut log = Log::new(1, SIZE);
            let text = has_text.then(|| vec![0; payload]);
            for _ in 0..=3 * SIZE / (payload + HEADER) {
                let oldest_after = log.oldest_after(payload, text.as_ref().map(Vec::len));
                log.append(payload, |_| {}, text.as_deref(), Audience::All, 1);
                assert_eq!(log.oldest().frames, oldest_after.frames);
                assert!(!has_text || log.oldest() == oldest_after);
            }
            log.check_invariants();
            assert!(log.allocated() <= SIZE);
            assert!(log.next() - log.oldest().frames >= 1);
            let kept = log.head() - log.position(Cursor::at(log.oldest().frames));
            assert!(payload > SIZE / 8 || kept > (SIZE / if has_text { 4 } else { 2 }) as u64);
        }
    }
}

#[test]
fn a_record_larger_than_the_log_displaces_everything_else() {
    let mut log = Log::new(1, PAGE);
    log.append(5, |_| {}, Some(b"small"), Audience::All, 1);
    let sequence = log.append(2 * PAGE, |frame| frame.fill(1), Some(&vec![1; 2 * PAGE]), Audience::All, 1);
    assert_eq!(log.oldest(), Oldest { frames: sequence, text: sequence });
    log.append(5, |_| {}, None, Audience::All, 1);
    assert_eq!(log.oldest(), Oldest { frames: sequence + 1, text: sequence + 2 });
}

#[test]
fn text_is_kept_from_the_first_record_that_has_one() {
    let mut log = Log::new(1, SIZE);
    log.append(1, |_| {}, None, Audience::All, 1);
    log.append(1, |_| {}, Some(b"text b"), Audience::All, 1);
    assert_eq!(log.oldest(), Oldest { frames: 1, text: 2 });
    assert_eq!(log.ring(Rendition::Text).payload(2), Some(&b"text b"[..]));
    log.append(1, |_| {}, None, Audience::All, 1);
    assert_eq!(log.oldest(), Oldest { frames: 1, text: 4 });
    log.check_invariants();
}

#[test]
fn unread_texts_give_their_memory_to_the_next() {
    let mut log = Log::new(1, SIZE);
    let append = |log: &mut Log| log.append(1, |_| {}, Some(&[b'x'; 1000]), Audience::All, 1);
    append(&mut log);
    log.forget_unread_texts();
    assert_eq!(log.oldest(), Oldest { frames: 1, text: 1 }, "a few of them may stay");
    let mut most = 0;
    for _ in 0..2000 {
        let sequence = append(&mut log);
        most = most.max(log.allocated());
        assert_eq!(log.ring(Rendition::Text).payload(sequence), Some(&[b'x'; 1000][..]));
        log.forget_unread_texts();
        log.check_invariants();
    }
    assert_eq!(most, 2 * PAGE, "one page of each rendition");
    assert!(log.oldest().text > 1900 && log.oldest().frames == 1, "{:?}", log.oldest());
}

proptest! {
    /// Whatever is appended, `oldest_after` predicts what is displaced.
    #[test]
    fn what_is_displaced_is_predicted(
        records in prop::collection::vec((0usize..2 * PAGE, 0usize..2 * PAGE, any::<bool>()), 1..60)
    ) {
        let mut log = Log::new(1, SIZE);
        for (frame, text, has_text) in records {
            let expected = log.oldest_after(frame, has_text.then_some(text));
            let sequence = log.append(frame, |_| {}, has_text.then(|| vec![0; text]).as_deref(), Audience::All, 1);
            log.check_invariants();
            prop_assert_eq!(log.oldest().frames, expected.frames.min(sequence));
            if has_text {
                prop_assert_eq!(log.oldest().text, expected.text.min(sequence));
            }
        }
    }
}
