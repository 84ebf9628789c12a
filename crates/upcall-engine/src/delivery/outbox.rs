//! What an endpoint receives besides upcalls: before them, the rest of a record that was displaced while it was partly
//! written, and control frames; after them, a farewell. A displaced record that is partly written to several endpoints
//! is kept once, and a cap bounds all of them together.

use std::collections::HashMap;
use std::rc::{Rc, Weak};

use upcall_wire::frame::{Frame, Gap, HEADER};

use crate::log::slices::Slices;

/// How many bytes of control frames a stream endpoint may leave unread before nothing more is read from it.
pub(crate) const MAX_CONTROL: usize = 16 * 1024;

/// Enough for most single answers, in bytes.
const ANSWER: usize = 64;

/// The size of a GAP, in bytes.
pub(crate) const GAP: usize = HEADER + 20;

/// What one endpoint receives besides upcalls.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Replaces the beginning of `record`.
    head: Vec<u8>,
    /// A record that was displaced while it was partly written to the endpoint, and how much of it is written.
    record: Option<(Rc<[u8]>, usize)>,
    control: Vec<u8>,
    farewell: Vec<u8>,
    /// How much of head, control and farewell is written.
    written: [usize; 3],
}

impl Outbox {
    /// Puts the rest of a record first: `head`, then `record` after its first `from` bytes. There must be no such rest
    /// already.
    pub(crate) fn finish_record(&mut self, head: Vec<u8>, record: Rc<[u8]>, from: usize) {
        (self.head, self.record, self.written[0]) = (head, Some((record, from)), 0);
    }

    pub(crate) fn set_farewell(&mut self, farewell: Vec<u8>) {
        self.farewell = farewell;
    }

    /// The whole farewell, for an endpoint that receives it in one datagram.
    pub(crate) fn farewell(&self) -> &[u8] {
        &self.farewell
    }

    /// Adds a control frame.
    pub(crate) fn push_control(&mut self, frame: &Frame<'_>) {
        if self.written[1] == self.control.len() {
            self.control.clear();
            self.control.shrink_to(ANSWER);
            self.control.reserve(ANSWER);
            self.written[1] = 0;
        } else if self.written[1] >= MAX_CONTROL {
            // Some endpoints always have something unread. What they have read must not accumulate.
            self.control.drain(..self.written[1]);
            self.written[1] = 0;
        }
        if let Frame::Gap(gap) = frame
            && self.extend_gap(gap)
        {
            return;
        }
        frame.write(&mut self.control);
    }

    /// Extends the last unwritten gap if `gap` continues it, so that any number of such gaps needs only the memory of
    /// one.
    fn extend_gap(&mut self, gap: &Gap) -> bool {
        let Some(at) = self.control.len().checked_sub(GAP).filter(|at| *at >= self.written[1]) else { return false };
        let Ok(Frame::Gap(earlier)) = Frame::take(&mut &self.control[at..]) else { return false };
        if earlier.last + 1 != gap.first || earlier.reason != gap.reason {
            return false;
        }
        self.control.truncate(at);
        Frame::Gap(Gap { first: earlier.first, ..*gap }).write(&mut self.control);
        true
    }

    /// Control frames that are not written yet, in bytes.
    pub(crate) fn pending_control(&self) -> usize {
        self.control.len() - self.written[1]
    }

    /// Whether there are neither unwritten control frames nor a farewell.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending_control() == 0 && self.farewell.is_empty()
    }

    /// Moves whole control frames into a datagram, at most `max` bytes of them. A frame may be larger if it is alone in
    /// the datagram (`lone`).
    pub(crate) fn take_control(&mut self, max: usize, lone: bool, out: &mut Vec<u8>) {
        let mut rest = &self.control[self.written[1]..];
        let mut taken = 0;
        while let Some(length) = rest.get(4..HEADER).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes) {
            let (frame, after) = rest.split_at(HEADER + length as usize);
            if (taken > 0 || !lone) && taken + frame.len() > max {
                break;
            }
            out.extend_from_slice(frame);
            taken += frame.len();
            rest = after;
        }
        self.written[1] += taken;
    }

    /// Whether there is nothing to write before the upcalls.
    pub(crate) fn is_front_empty(&self) -> bool {
        let [head, control, _] = self.written;
        head == self.head.len() && self.record.is_none() && control == self.control.len()
    }

    /// Adds what is written before the upcalls. Returns whether there was room for all of it.
    pub(crate) fn front<'a>(&'a self, slices: &mut Slices<'a>) -> bool {
        let record = self.record.as_ref().map_or(&[][..], |(record, from)| &record[*from..]);
        slices.push(&self.head[self.written[0]..])
            && slices.push(record)
            && slices.push(&self.control[self.written[1]..])
    }

    /// Records that `written` bytes are written. Returns how many of them were not of the front.
    pub(crate) fn advance_front(&mut self, mut written: usize) -> usize {
        let mut take = |pending: usize| {
            let taken = written.min(pending);
            written -= taken;
            taken
        };
        self.written[0] += take(self.head.len() - self.written[0]);
        if let Some((record, from)) = &mut self.record {
            *from += take(record.len() - *from);
            if *from == record.len() {
                self.record = None;
            }
        }
        self.written[1] += take(self.control.len() - self.written[1]);
        written
    }

    /// Adds what is written after the upcalls.
    pub(crate) fn back<'a>(&'a self, slices: &mut Slices<'a>) {
        slices.push(&self.farewell[self.written[2]..]);
    }

    /// Records that `written` more bytes of the back are written. Returns whether nothing is left at all.
    pub(crate) fn advance_back(&mut self, written: usize) -> bool {
        self.written[2] += written;
        self.written[2] == self.farewell.len() && self.is_front_empty()
    }
}

/// Records that were displaced while they were partly written, by sequence and by whether they are frames.
#[derive(Debug, Default)]
pub(crate) struct DisplacedRecords {
    records: HashMap<(u64, bool), Weak<[u8]>>,
}

impl DisplacedRecords {
    /// A shared copy of record `sequence`, which is a frame or a text. `None` if all copies together would exceed `cap`
    /// bytes; a first copy may.
    pub(crate) fn keep(&mut self, sequence: u64, frame: bool, payload: &[u8], cap: usize) -> Option<Rc<[u8]>> {
        if let Some(record) = self.records.get(&(sequence, frame)).and_then(Weak::upgrade) {
            return Some(record);
        }
        self.records.retain(|_, record| record.strong_count() > 0);
        let kept: usize = self.records.values().filter_map(Weak::upgrade).map(|record| record.len()).sum();
        if kept > 0 && kept + payload.len() > cap {
            return None;
        }
        let record = Rc::from(payload);
        self.records.insert((sequence, frame), Rc::downgrade(&record));
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use upcall_wire::frame::GapReason;

    use super::*;

    #[test]
    fn a_record_is_kept_once_and_all_of_them_within_the_cap() {
        let mut displaced = DisplacedRecords::default();
        let first = displaced.keep(1, false, &[1; 60], 100).unwrap();
        assert!(Rc::ptr_eq(&first, &displaced.keep(1, false, &[1; 60], 100).unwrap()));
        assert!(displaced.keep(1, true, &[1; 60], 100).is_none(), "another rendition");
        drop(first);
        assert!(displaced.keep(2, false, &[2; 60], 100).is_some());
    }

    fn written(outbox: &mut Outbox) -> Vec<u8> {
        let mut written = Vec::new();
        loop {
            let mut slices = Slices::new();
            outbox.front(&mut slices);
            outbox.back(&mut slices);
            let Some(slice) = slices.first() else { return written };
            written.push(slice[0]);
            let rest = outbox.advance_front(1);
            outbox.advance_back(rest);
        }
    }

    #[test]
    fn the_rest_of_the_record_goes_first_and_the_farewell_last() {
        let mut outbox = Outbox::default();
        outbox.set_farewell(b"bye".to_vec());
        outbox.push_control(&Frame::Pong { nonce: 1 });
        outbox.finish_record(b"he".to_vec(), Rc::from(&b"record"[..]), 4);
        let pong = Frame::Pong { nonce: 1 }.to_vec();
        assert_eq!(written(&mut outbox), [&b"herd"[..], &pong, b"bye"].concat());
        assert!(outbox.is_front_empty() && outbox.advance_back(0));
    }

    #[test]
    fn adjacent_gaps_are_one() {
        let mut outbox = Outbox::default();
        let gap = |first, last| Gap { first, last, reason: GapReason::SlowConsumer };
        for (first, last) in [(3, 5), (6, 6), (7, 20), (30, 31)] {
            outbox.push_control(&Frame::Gap(gap(first, last)));
        }
        let expected = [Frame::Gap(gap(3, 20)).to_vec(), Frame::Gap(gap(30, 31)).to_vec()].concat();
        assert_eq!(written(&mut outbox), expected);
    }

    #[test]
    fn control_that_is_never_fully_read_does_not_accumulate() {
        let mut outbox = Outbox::default();
        outbox.push_control(&Frame::Pong { nonce: 0 });
        for nonce in 1..100_000 {
            outbox.push_control(&Frame::Pong { nonce });
            outbox.advance_front(16);
            let mut slices = Slices::new();
            outbox.front(&mut slices);
            assert_eq!(*slices[0], *Frame::Pong { nonce }.to_vec());
        }
        assert!(outbox.control.len() <= 2 * MAX_CONTROL);
    }

    #[test]
    fn datagrams_take_whole_frames() {
        let mut outbox = Outbox::default();
        (0..5).for_each(|nonce| outbox.push_control(&Frame::Pong { nonce }));
        let mut datagrams = Vec::new();
        while outbox.pending_control() > 0 {
            let mut datagram = Vec::new();
            outbox.take_control(40, true, &mut datagram);
            datagrams.push(datagram.len());
        }
        assert_eq!(datagrams, [32, 32, 16]);
        outbox.push_control(&Frame::Pong { nonce: 9 });
        let mut datagram = Vec::new();
        outbox.take_control(15, false, &mut datagram);
        assert_eq!(datagram, b"", "there is no room beside what else is sent");
        outbox.take_control(15, true, &mut datagram);
        assert_eq!(datagram.len(), 16);
    }
}
