//! What a reader receives of the log: where it is, how far it may read, and which records are due to it.

use super::filters::{EarlierFilters, FilterSet};

/// A place in the log: `offset` bytes into record `sequence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    pub(crate) sequence: u64,
    pub(crate) offset: u32,
}

impl Cursor {
    /// The beginning of record `sequence`.
    pub(crate) fn at(sequence: u64) -> Cursor {
        Cursor { sequence, offset: 0 }
    }
}

/// The records that a reader receives: those from its cursor up to `until` that are due to `reader` and match its
/// filters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'f> {
    pub(crate) cursor: Cursor,
    /// The first sequence that it does not receive.
    pub(crate) until: u64,
    /// The number of the endpoint.
    pub(crate) reader: u64,
    /// `None`: it receives everything.
    pub(crate) filters: Option<&'f FilterSet>,
    /// The filters that were in force before, in the order of their sequences.
    pub(crate) earlier: &'f [EarlierFilters],
}

impl Reading<'_> {
    /// The filters that are in force for a sequence.
    pub(crate) fn filters_at(&self, sequence: u64) -> Option<&FilterSet> {
        match self.earlier.last() {
            Some(last) if sequence < last.until => {
                let index = self.earlier.partition_point(|earlier| earlier.until <= sequence);
                self.earlier.get(index).and_then(|earlier| earlier.filters.as_deref())
            }
            _ => self.filters,
        }
    }
}

/// The place of a reader after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advanced {
    pub(crate) cursor: Cursor,
    /// How many records the write completed.
    pub(crate) completed: u64,
    /// The last of them; 0 if there is none, which is below every sequence.
    pub(crate) last: u64,
    /// Bytes of the write that were not from the log, but from what follows it.
    pub(crate) rest: usize,
}
