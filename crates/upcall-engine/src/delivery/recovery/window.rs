//! The congestion window: how many datagrams may be in flight to one endpoint. NewReno as in RFC 9002 section 7,
//! counted in datagrams.

/// The initial size (RFC 9002 section 7.2).
const INITIAL: usize = 10;

/// The smallest size (RFC 9002 section 7.2).
const MIN: usize = 2;

/// The largest size. An ACK covers 65 numbers; what it no longer covers would be sent again needlessly.
const MAX: usize = 64;

/// The congestion window.
#[derive(Debug)]
pub(crate) struct Window {
    /// In datagrams.
    size: usize,
    /// Slow start ends when the size reaches this (section 7.3.1).
    threshold: usize,
    /// Datagrams that arrived since the window last grew, after slow start.
    credit: usize,
    /// The last number that filled the window: all that was in flight then was part of a full window.
    filled: u64,
    /// The last number that was used when the window was last halved (section 7.3.2).
    recovery: u64,
}

impl Window {
    pub(crate) fn new() -> Window {
        Window { size: INITIAL, threshold: MAX, credit: 0, filled: 0, recovery: 0 }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// This number was sent, and `outstanding` datagrams are in flight with it.
    pub(crate) fn sent(&mut self, number: u64, outstanding: usize) {
        if outstanding >= self.size {
            self.filled = number;
        }
    }

    /// Whether the arrival of this number, in flight until now, is a reason to grow: it was part of a full window
    /// (section 7.8), and was sent after the last halving (section 7.3.2).
    pub(crate) fn grows_by(&self, number: u64) -> bool {
        number <= self.filled && number > self.recovery
    }

    /// Grows by one arrival that is a reason to (sections 7.3.1 and 7.3.3).
    pub(crate) fn grow(&mut self) {
        self.credit += 1;
        if self.size < self.threshold || self.credit >= self.size {
            self.size = (self.size + 1).min(MAX);
            self.credit = 0;
        }
    }

    /// `number` was lost, which was found when `last` was the last one used. Halves the window, unless the number was
    /// sent before the last halving: that was for the same congestion (section 7.3.2). Returns whether it was halved.
    pub(crate) fn lost(&mut self, number: u64, last: u64) -> bool {
        let halved = number > self.recovery;
        if halved {
            self.size = (self.size / 2).max(MIN);
            *self = Window { threshold: self.size, credit: 0, recovery: last, ..*self };
        }
        halved
    }

    /// Persistent congestion: nothing was acknowledged for a long time (section 7.6.2), and `last` is the last number
    /// used. The threshold stays what the first loss made of it, whatever else is found lost later (RFC 5681 section
    /// 3.1): slow start leads there once something is acknowledged.
    pub(crate) fn collapse(&mut self, last: u64) {
        (self.size, self.recovery) = (MIN, last);
    }
}
