//! Upcalls in order: what each of them says came before it, against what has. Pure.

use std::collections::BTreeMap;

use super::event::{Event, Loss, Upcall};

/// Kept of what came early, in upcalls and in bytes. A daemon has 64 datagrams under way at most.
const MAX_EARLY: usize = 8 << 10;
const MAX_BYTES: usize = 16 << 20;

/// What became of something that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was handed on, is kept, or had come before.
    Yes,
    /// There is no room to keep it: it has to come again.
    NoRoom,
    /// It does not fit to what came before it, on a transport that keeps order.
    Broken,
}

#[derive(Debug)]
struct Early {
    prev: u64,
    upcall: Upcall,
}

/// The place in the log up to which everything due has been handed on or reported missing.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// Nothing comes early, or twice.
    strict: bool,
    last: u64,
    /// Nothing up to here is handed on: an earlier session did that.
    floor: u64,
    /// The one before the start of the session, or of its latest resumption.
    entry: u64,
    /// What is gone before `entry` may still be announced.
    preface: bool,
    early: BTreeMap<u64, Early>,
    gaps: BTreeMap<u64, (u64, Loss)>,
    bytes: usize,
}

impl Chain {
    /// `strict`: the transport keeps order, and loses nothing. Begins behind `last`.
    pub(super) fn new(strict: bool, last: u64) -> Chain {
        Chain { strict, last, ..Chain::default() }
    }

    /// The last sequence that was handed on, was reported missing, or is known not to be due.
    pub(super) fn last(&self) -> u64 {
        self.last.max(self.floor)
    }

    /// The session goes on from `start`. What came early comes again.
    pub(super) fn resume(&mut self, start: u64) {
        self.forget();
        self.entry = start.saturating_sub(1);
        // What an earlier session had dealt with was not asked for again.
        self.last = self.last.max(self.floor);
    }

    /// A new session begins at `start`, in a log of which everything up to `floor` has been dealt with, if it is known.
    pub(super) fn begin(&mut self, start: u64, floor: Option<u64>, out: &mut impl FnMut(Event)) {
        self.forget();
        self.floor = floor.unwrap_or(0);
        self.last = start.saturating_sub(1);
        self.entry = self.last;
        self.preface = true;
        // Nothing may have been dealt with yet: then everything up to the start is missing.
        if floor.is_some() {
            self.missing(self.floor + 1, self.last, Loss::Session, out);
        }
    }

    fn forget(&mut self) {
        self.early.clear();
        self.gaps.clear();
        self.bytes = 0;
        self.preface = false;
    }

    /// Takes an upcall, that `prev` (its low 32 bits) was due before.
    pub(super) fn upcall(&mut self, upcall: Upcall, prev: u32, out: &mut impl FnMut(Event)) -> Taken {
        let sequence = upcall.sequence;
        let distance = match (sequence as u32).wrapping_sub(prev) {
            0 => 1 << 32,
            distance => u64::from(distance),
        };
        let Some(prev) = sequence.checked_sub(distance) else { return Taken::Broken };
        if self.strict && prev == self.entry && self.entry > self.last {
            // The daemon goes on further ahead than we are, and has not said why.
            self.pass(self.entry, Loss::Evicted, out);
        }
        match (sequence > self.last, prev <= self.last) {
            _ if self.strict && prev != self.last => return Taken::Broken,
            (false, _) => {}
            (true, true) => {
                self.deliver(upcall, out);
                self.settle(out);
            }
            (true, false) => return self.keep(upcall, prev),
        }
        Taken::Yes
    }

    fn keep(&mut self, upcall: Upcall, prev: u64) -> Taken {
        let size = upcall.payload.len() + upcall.topic.len();
        if self.early.contains_key(&upcall.sequence) {
            return Taken::Yes;
        }
        if self.early.len() >= MAX_EARLY || self.bytes + size > MAX_BYTES {
            return Taken::NoRoom;
        }
        self.bytes += size;
        self.early.insert(upcall.sequence, Early { prev, upcall });
        Taken::Yes
    }

    /// Takes the announcement that `first` to `last` will not come.
    pub(super) fn gap(&mut self, first: u64, last: u64, loss: Loss, out: &mut impl FnMut(Event)) -> Taken {
        if self.preface && last <= self.entry && self.last == self.entry {
            // What was asked for before the start, and is no more.
            self.preface = false;
            self.missing(first, last, loss, out);
            return Taken::Yes;
        }
        match first - 1 <= self.last {
            _ if self.strict && first - 1 != self.last => return Taken::Broken,
            true => {
                self.pass(last, loss, out);
                self.settle(out);
            }
            false if self.gaps.len() >= MAX_EARLY => return Taken::NoRoom,
            false => {
                let known = self.gaps.entry(first).or_insert((last, loss));
                known.0 = known.0.max(last);
            }
        }
        Taken::Yes
    }

    /// Goes on to `to`: hands on what came early of it, and reports the rest missing.
    fn pass(&mut self, to: u64, loss: Loss, out: &mut impl FnMut(Event)) {
        while let Some((sequence, prev, upcall)) = self.pop_early(|sequence, _| sequence <= to) {
            if sequence > self.last {
                // Between the two nothing was due.
                self.missing(self.last + 1, prev, loss, out);
                self.deliver(upcall, out);
            }
        }
        self.missing(self.last + 1, to, loss, out);
        self.last = self.last.max(to);
    }

    /// Hands on what was waiting for what has come.
    fn settle(&mut self, out: &mut impl FnMut(Event)) {
        loop {
            let last = self.last;
            if let Some(gap) = self.gaps.first_entry()
                && *gap.key() - 1 <= last
            {
                let (to, loss) = gap.remove();
                self.pass(to, loss, out);
            } else if let Some((sequence, _, upcall)) = self.pop_early(|_, prev| prev <= last) {
                if sequence > last {
                    self.deliver(upcall, out);
                }
            } else {
                return;
            }
        }
    }

    /// Takes out the first that came early, if it is wanted.
    fn pop_early(&mut self, wanted: impl FnOnce(u64, u64) -> bool) -> Option<(u64, u64, Upcall)> {
        let (&sequence, Early { prev, .. }) = self.early.first_key_value()?;
        if !wanted(sequence, *prev) {
            return None;
        }
        let (sequence, Early { prev, upcall }) = self.early.pop_first()?;
        self.bytes -= upcall.payload.len() + upcall.topic.len();
        Some((sequence, prev, upcall))
    }

    fn deliver(&mut self, upcall: Upcall, out: &mut impl FnMut(Event)) {
        self.last = upcall.sequence;
        self.preface = false;
        if upcall.sequence > self.floor {
            out(Event::Upcall(upcall));
        }
    }

    fn missing(&self, first: u64, last: u64, loss: Loss, out: &mut impl FnMut(Event)) {
        let first = first.max(self.floor + 1);
        if first <= last {
            out(Event::Gap { first, last, loss });
        }
    }
}

#[cfg(test)]
mod tests;
