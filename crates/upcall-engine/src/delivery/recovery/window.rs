//! How many datagrams may be on their way to one endpoint: NewReno as in RFC 9002 section 7, in datagrams.

/// At first (RFC 9002 section 7.2).
const INITIAL: usize = 10;

/// At the least (RFC 9002 section 7.2).
const MIN: usize = 2;

/// At the most: an ACK tells of 65 numbers, and what it does not tell of any more would be sent again in vain.
const MAX: usize = 64;

/// The window.
#[derive(Debug)]
pub(crate) struct Window {
    /// Datagrams.
    size: usize,
    /// Slow start ends where the size reaches this (section 7.3.1).
    threshold: usize,
    /// Arrived since the window grew last, after slow start.
    credit: usize,
    /// The last number that filled the window: whatever was outstanding then was part of a full one.
    filled: u64,
    /// The last number that was used before the window was halved last (section 7.3.2).
    recovery: u64,
}

impl Window {
    pub(crate) fn new() -> Window {
        Window { size: INITIAL, threshold: MAX, credit: 0, filled: 0, recovery: 0 }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// This number has left; so many are outstanding with it.
    pub(crate) fn departed(&mut self, number: u64, outstanding: usize) {
        if outstanding >= self.size {
            self.filled = number;
        }
    }

    /// Whether the arrival of this number, outstanding until now, is a reason to grow: it was part of a full window
    /// (section 7.8) and left after the last halving (section 7.3.2).
    pub(crate) fn grows_by(&self, number: u64) -> bool {
        number <= self.filled && number > self.recovery
    }

    /// One that is a reason to grow has arrived (sections 7.3.1 and 7.3.3).
    pub(crate) fn grow(&mut self) {
        self.credit += 1;
        if self.size < self.threshold || self.credit >= self.size {
            self.size = (self.size + 1).min(MAX);
            self.credit = 0;
        }
    }

    /// The loss of `number`, found when `last` was the last one used, is a sign of congestion; unless it left before the
    /// window was halved last, which was for the same one (section 7.3.2). Says whether it was halved.
    pub(crate) fn lost(&mut self, number: u64, last: u64) -> bool {
        let halved = number > self.recovery;
        if halved {
            self.size = (self.size / 2).max(MIN);
            *self = Window { threshold: self.size, credit: 0, recovery: last, ..*self };
        }
        halved
    }

    /// Nothing has come back for a long time (section 7.6.2), by which `last` was the last number used. The threshold stays
    /// what the first loss made of it, whatever else is found to be lost later (RFC 5681 section 3.1): once something
    /// comes back, slow start leads there.
    pub(crate) fn collapse(&mut self, last: u64) {
        (self.size, self.recovery) = (MIN, last);
    }
}
