//! The order of upcalls. Each upcall names the sequence that precedes it for this client, and is delivered after that
//! one.
//!
//! Upcalls that arrive early are kept, those that arrive twice are dropped, and gaps are reported in their place. This
//! module knows sequences, but neither frames nor the time.

use std::collections::BTreeMap;

use super::event::{Event, Loss, Upcall};

/// The most early upcalls that are kept. A daemon has at most 64 datagrams in flight.
const MAX_EARLY: usize = 8 << 10;

/// The most bytes of early upcalls that are kept.
const MAX_EARLY_BYTES: usize = 16 << 20;

/// The result of an upcall or a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    /// It was delivered, is kept, or had arrived before.
    Yes,
    /// It arrived too early, and there is no room to keep it. The daemon has to send it again.
    NoRoom,
    /// It contradicts what arrived before.
    Violation,
}

#[derive(Debug)]
struct EarlyUpcall {
    prev: u64,
    upcall: Upcall,
}

/// The position in the log up to which everything due has been delivered or reported missing, and what arrived early.
#[derive(Debug, Default)]
pub(super) struct UpcallOrder {
    /// Whether the transport keeps the order, so that nothing arrives early or twice.
    is_strict: bool,
    last: u64,
    /// Nothing up to this sequence is delivered, because an earlier session did that.
    floor: u64,
    /// The sequence before the start of the session, or of its latest resumption.
    entry: u64,
    /// Whether the daemon may still announce a gap before `entry`.
    may_begin_with_gap: bool,
    early: BTreeMap<u64, EarlyUpcall>,
    /// Early gaps: from the first sequence to the last, and why.
    early_gaps: BTreeMap<u64, (u64, Loss)>,
    early_bytes: usize,
}

impl UpcallOrder {
    /// Starts after the sequence `last`. `is_strict` is set if the transport keeps the order and loses nothing.
    pub(super) fn new(is_strict: bool, last: u64) -> UpcallOrder {
        UpcallOrder { is_strict, last, ..UpcallOrder::default() }
    }

    /// The last sequence that was delivered, was reported missing, or is known not to be due.
    pub(super) fn last(&self) -> u64 {
        self.last.max(self.floor)
    }

    /// The session was resumed at `start`. The daemon sends again what arrived early.
    pub(super) fn resume(&mut self, start: u64) {
        self.drop_early();
        self.entry = start.saturating_sub(1);
        // What an earlier session had delivered was not requested again.
        self.last = self.last.max(self.floor);
    }

    /// A new session begins at `start`. If it is in the same log, `floor` is the last sequence that was delivered
    /// there.
    pub(super) fn begin(&mut self, start: u64, floor: Option<u64>, out: &mut impl FnMut(Event)) {
        self.drop_early();
        self.floor = floor.unwrap_or(0);
        self.last = start.saturating_sub(1);
        self.entry = self.last;
        self.may_begin_with_gap = true;
        // A floor of 0 counts: nothing was delivered yet, so everything up to the start is missing.
        if floor.is_some() {
            self.report_missing(self.floor + 1, self.last, Loss::Session, out);
        }
    }

    fn drop_early(&mut self) {
        self.early.clear();
        self.early_gaps.clear();
        self.early_bytes = 0;
        self.may_begin_with_gap = false;
    }

    /// Adds an upcall. `prev` is the low 32 bits of the sequence that precedes it.
    pub(super) fn upcall(&mut self, upcall: Upcall, prev: u32, out: &mut impl FnMut(Event)) -> Accepted {
        let sequence = upcall.sequence;
        let distance = match (sequence as u32).wrapping_sub(prev) {
            0 => 1 << 32,
            distance => u64::from(distance),
        };
        let Some(prev) = sequence.checked_sub(distance) else { return Accepted::Violation };
        if self.is_strict && prev == self.entry && self.entry > self.last {
            // The daemon resumed further ahead than this client is, and announced no gap.
            self.advance(self.entry, Loss::Evicted, out);
        }
        match (sequence > self.last, prev <= self.last) {
            _ if self.is_strict && prev != self.last => return Accepted::Violation,
            (false, _) => {}
            (true, true) => {
                self.deliver(upcall, out);
                self.deliver_early(out);
            }
            (true, false) => return self.keep(upcall, prev),
        }
        Accepted::Yes
    }

    fn keep(&mut self, upcall: Upcall, prev: u64) -> Accepted {
        let size = upcall.payload.len() + upcall.topic.len();
        if self.early.contains_key(&upcall.sequence) {
            return Accepted::Yes;
        }
        if self.early.len() >= MAX_EARLY || self.early_bytes + size > MAX_EARLY_BYTES {
            return Accepted::NoRoom;
        }
        self.early_bytes += size;
        self.early.insert(upcall.sequence, EarlyUpcall { prev, upcall });
        Accepted::Yes
    }

    /// Adds a gap from `first` to `last`.
    pub(super) fn gap(&mut self, first: u64, last: u64, loss: Loss, out: &mut impl FnMut(Event)) -> Accepted {
        if self.may_begin_with_gap && last <= self.entry && self.last == self.entry {
            // Requested history that the log no longer holds.
            self.may_begin_with_gap = false;
            self.report_missing(first, last, loss, out);
            return Accepted::Yes;
        }
        match first - 1 <= self.last {
            _ if self.is_strict && first - 1 != self.last => return Accepted::Violation,
            true => {
                self.advance(last, loss, out);
                self.deliver_early(out);
            }
            false if self.early_gaps.len() >= MAX_EARLY => return Accepted::NoRoom,
            false => {
                let known = self.early_gaps.entry(first).or_insert((last, loss));
                known.0 = known.0.max(last);
            }
        }
        Accepted::Yes
    }

    /// Advances to the end of a gap: delivers the early upcalls within it, and reports the rest missing.
    fn advance(&mut self, to: u64, loss: Loss, out: &mut impl FnMut(Event)) {
        while let Some((sequence, prev, upcall)) = self.pop_early(|sequence, _| sequence <= to) {
            if sequence > self.last {
                // Nothing was due between `prev` and this one, so the missing range ends there.
                self.report_missing(self.last + 1, prev, loss, out);
                self.deliver(upcall, out);
            }
        }
        self.report_missing(self.last + 1, to, loss, out);
        self.last = self.last.max(to);
    }

    /// Delivers the early upcalls and gaps that now follow directly.
    fn deliver_early(&mut self, out: &mut impl FnMut(Event)) {
        loop {
            let last = self.last;
            if let Some(gap) = self.early_gaps.first_entry()
                && *gap.key() - 1 <= last
            {
                let (to, loss) = gap.remove();
                self.advance(to, loss, out);
            } else if let Some((sequence, _, upcall)) = self.pop_early(|_, prev| prev <= last) {
                if sequence > last {
                    self.deliver(upcall, out);
                }
            } else {
                return;
            }
        }
    }

    /// Removes the first early upcall, with its sequence and the one that precedes it, if it matches.
    fn pop_early(&mut self, matches: impl FnOnce(u64, u64) -> bool) -> Option<(u64, u64, Upcall)> {
        let (&sequence, EarlyUpcall { prev, .. }) = self.early.first_key_value()?;
        if !matches(sequence, *prev) {
            return None;
        }
        let (sequence, EarlyUpcall { prev, upcall }) = self.early.pop_first()?;
        self.early_bytes -= upcall.payload.len() + upcall.topic.len();
        Some((sequence, prev, upcall))
    }

    fn deliver(&mut self, upcall: Upcall, out: &mut impl FnMut(Event)) {
        self.last = upcall.sequence;
        self.may_begin_with_gap = false;
        if upcall.sequence > self.floor {
            out(Event::Upcall(upcall));
        }
    }

    fn report_missing(&self, first: u64, last: u64, loss: Loss, out: &mut impl FnMut(Event)) {
        let first = first.max(self.floor + 1);
        if first <= last {
            out(Event::Gap { first, last, loss });
        }
    }
}

#[cfg(test)]
mod tests;
