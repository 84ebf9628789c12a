//! The log: every accepted input once, as it is delivered, with the sequence that makes the one total order; and the
//! cursors into it. Its memory is bounded by its size whatever the messages are.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::Audience;
use super::page::{HEADER, Page};

/// The size of a page, in bytes; a larger record gets a page of its own.
const PAGE: usize = 256 * 1024;

/// A place in the log: so many bytes into record `sequence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cursor {
    pub(super) sequence: u64,
    pub(super) offset: u32,
}

impl Cursor {
    pub(super) fn at(sequence: u64) -> Cursor {
        Cursor { sequence, offset: 0 }
    }
}

/// Which records a reader is to get: from its cursor up to `until`, of those the ones due to `reader`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) cursor: Cursor,
    pub(super) until: u64,
    pub(super) reader: u64,
}

/// Where a reader is after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Advanced {
    pub(super) cursor: Cursor,
    /// How many records it now has to their end that it had not before.
    pub(super) completed: u64,
    /// Bytes of the write that were not from the log, but from behind it.
    pub(super) rest: usize,
}

/// What one write can hold: enough for many pages, small enough to live on the stack.
pub(super) const MAX_SLICES: usize = 16;

/// Slices of the log for one vectored write.
#[derive(Debug)]
pub struct Slices<'a> {
    slices: [IoSlice<'a>; MAX_SLICES],
    count: usize,
}

impl<'a> Slices<'a> {
    pub(super) fn new() -> Slices<'a> {
        Slices { slices: [IoSlice::new(&[]); MAX_SLICES], count: 0 }
    }

    /// Adds a slice; says whether there was room for it.
    pub(super) fn push(&mut self, bytes: &'a [u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let Some(slot) = self.slices.get_mut(self.count) else { return false };
        *slot = IoSlice::new(bytes);
        self.count += 1;
        true
    }

    /// Bytes in all slices together.
    pub fn bytes(&self) -> usize {
        self.iter().map(|slice| slice.len()).sum()
    }
}

impl<'a> std::ops::Deref for Slices<'a> {
    type Target = [IoSlice<'a>];

    fn deref(&self) -> &[IoSlice<'a>] {
        &self.slices[..self.count]
    }
}

#[derive(Debug)]
pub(super) struct Log {
    pages: VecDeque<Page>,
    /// The bound, in bytes.
    size: usize,
    /// Memory of all pages, in bytes.
    allocated: usize,
    /// The sequence of the next record.
    next: u64,
    /// The position behind the last record.
    head: u64,
    /// The last record that is not due to everybody; 0 for none.
    last_selective: u64,
}

impl Log {
    pub(super) fn new(size: usize) -> Log {
        Log { pages: VecDeque::new(), size, allocated: 0, next: 1, head: 0, last_selective: 0 }
    }

    /// The sequence that the next record gets.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The oldest sequence that is still there; that of the next record if there is none.
    pub(super) fn oldest(&self) -> u64 {
        self.pages.front().map_or(self.next, Page::first)
    }

    /// Memory in use, in bytes.
    pub(super) fn allocated(&self) -> usize {
        self.allocated
    }

    /// The most that it may use, in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The position behind the last record. Positions count what records cost: payload and header, in bytes.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// The position of a cursor.
    pub(super) fn position(&self, cursor: Cursor) -> u64 {
        self.page(cursor.sequence).map_or(self.head, |page| page.position(cursor.sequence)) + u64::from(cursor.offset)
    }

    /// Appends a record and returns its sequence; evicts the oldest pages if need be, see [`Log::oldest_after`].
    pub(super) fn append(&mut self, payload: &[u8], audience: Audience, source: u64) -> u64 {
        if self.needs_page(payload.len()) {
            self.add_page(page_for(payload.len()));
        }
        let page = self.pages.back_mut().expect("a page was added where there was none");
        page.push(payload, audience, source);
        let sequence = self.next;
        self.next += 1;
        self.head += (payload.len() + HEADER) as u64;
        if audience != Audience::All {
            self.last_selective = sequence;
        }
        sequence
    }

    /// The oldest sequence that will be there once a record of `payload` bytes is appended.
    pub(super) fn oldest_after(&self, payload: usize) -> u64 {
        if !self.needs_page(payload) {
            return self.oldest();
        }
        let mut excess = (self.allocated + page_for(payload)).saturating_sub(self.size);
        for page in &self.pages {
            if excess == 0 {
                return page.first();
            }
            excess = excess.saturating_sub(page.capacity());
        }
        self.next
    }

    fn needs_page(&self, payload: usize) -> bool {
        !self.pages.back().is_some_and(|page| page.fits(payload))
    }

    fn add_page(&mut self, capacity: usize) {
        let mut evicted = None;
        while self.allocated + capacity > self.size
            && let Some(page) = self.pages.pop_front()
        {
            self.allocated -= page.capacity();
            evicted = Some(page);
        }
        let page = match evicted {
            Some(page) if page.capacity() == capacity => page.reuse(self.next, self.head),
            _ => Page::new(capacity, self.next, self.head),
        };
        self.allocated += capacity;
        self.pages.push_back(page);
    }

    /// The page that holds record `sequence`; none for the sequence behind the last record.
    fn page(&self, sequence: u64) -> Option<&Page> {
        debug_assert!(sequence >= self.oldest(), "record {sequence} was evicted");
        let index = self.pages.partition_point(|page| page.next() <= sequence);
        self.pages.get(index)
    }

    /// The payload of record `sequence`.
    pub(super) fn payload(&self, sequence: u64) -> Option<&[u8]> {
        self.page(sequence).map(|page| page.payload(sequence))
    }

    fn is_selective(&self, reading: &Reading) -> bool {
        self.last_selective >= reading.cursor.sequence
    }

    /// Adds what is to be written to `slices`, as far as they hold it; says whether they hold all of it.
    pub(super) fn slices<'a>(&'a self, reading: &Reading, slices: &mut Slices<'a>) -> bool {
        let Reading { cursor, until, .. } = *reading;
        if cursor.sequence >= until {
            return true;
        }
        if self.is_selective(reading) {
            return self.selective_slices(reading, slices);
        }
        let first = self.pages.partition_point(|page| page.next() <= cursor.sequence);
        let mut skip = cursor.offset as usize;
        self.pages.range(first..).take_while(|page| page.first() < until).all(|page| {
            let from = cursor.sequence.max(page.first());
            slices.push(&page.payloads(from, until)[std::mem::take(&mut skip)..])
        })
    }

    /// The same where some records are not due to the reader: neighbours that are share a slice.
    fn selective_slices<'a>(&'a self, reading: &Reading, slices: &mut Slices<'a>) -> bool {
        let Reading { cursor, until, reader } = *reading;
        let mut sequence = cursor.sequence;
        let mut skip = cursor.offset as usize;
        while sequence < until {
            let Some(page) = self.page(sequence) else { return true };
            let end = until.min(page.next());
            while sequence < end {
                let run = sequence;
                while sequence < end && page.header(sequence).is_due_to(reader) {
                    sequence += 1;
                }
                if sequence > run && !slices.push(&page.payloads(run, sequence)[std::mem::take(&mut skip)..]) {
                    return false;
                }
                while sequence < end && !page.header(sequence).is_due_to(reader) {
                    sequence += 1;
                }
            }
        }
        true
    }

    /// Where a reader is after `written` bytes of what [`Log::slices`] gave.
    pub(super) fn advance(&self, reading: &Reading, mut written: usize) -> Advanced {
        if self.is_selective(reading) {
            return self.selective_advance(reading, written);
        }
        let Reading { mut cursor, until, .. } = *reading;
        while cursor.sequence < until {
            let Some(page) = self.page(cursor.sequence) else { break };
            let start = page.start(cursor.sequence) + cursor.offset as usize;
            let pending = page.start(until.min(page.next())) - start;
            if written < pending {
                let (sequence, offset) = page.locate(start + written);
                cursor = Cursor { sequence, offset: offset as u32 };
                written = 0;
                break;
            }
            written -= pending;
            cursor = Cursor::at(until.min(page.next()));
        }
        Advanced { cursor, completed: cursor.sequence - reading.cursor.sequence, rest: written }
    }

    /// The first records that are due to a reader, as far as they are of one size, and neighbours: their payload, and how
    /// many they are. None where nothing is due.
    pub(super) fn run(&self, reading: &Reading, max_bytes: usize, max_count: usize) -> Option<(&[u8], usize)> {
        let Reading { cursor, until, reader } = *reading;
        let mut sequence = cursor.sequence;
        while sequence < until {
            let page = self.page(sequence)?;
            let end = until.min(page.next());
            while sequence < end && !page.header(sequence).is_due_to(reader) {
                sequence += 1;
            }
            if sequence == end {
                continue;
            }
            let size = page.payload(sequence).len();
            let is_alike = |next: u64| page.payload(next).len() == size && page.header(next).is_due_to(reader);
            let mut count = 1;
            while count < max_count
                && (count + 1) * size <= max_bytes
                && sequence + (count as u64) < end
                && is_alike(sequence + count as u64)
            {
                count += 1;
            }
            return Some((page.payloads(sequence, sequence + count as u64), count));
        }
        None
    }

    /// Where a reader is that has got, or missed, `count` more of the records that are due to it, and how many these
    /// really were.
    pub(super) fn pass(&self, reading: &Reading, count: usize) -> (Cursor, usize) {
        let mut sequence = reading.cursor.sequence;
        let mut passed = 0;
        while sequence < reading.until
            && let Some(page) = self.page(sequence)
        {
            let is_due = page.header(sequence).is_due_to(reading.reader);
            if is_due && passed == count {
                break;
            }
            passed += usize::from(is_due);
            sequence += 1;
        }
        (Cursor::at(sequence), passed)
    }

    fn selective_advance(&self, reading: &Reading, mut written: usize) -> Advanced {
        let Reading { mut cursor, until, reader } = *reading;
        let mut completed = 0;
        'pages: while cursor.sequence < until {
            let Some(page) = self.page(cursor.sequence) else { break };
            while cursor.sequence < until.min(page.next()) {
                if page.header(cursor.sequence).is_due_to(reader) {
                    let pending = page.payload(cursor.sequence).len() - cursor.offset as usize;
                    if written < pending {
                        cursor.offset += written as u32;
                        written = 0;
                        break 'pages;
                    }
                    written -= pending;
                    completed += 1;
                }
                cursor = Cursor::at(cursor.sequence + 1);
            }
        }
        Advanced { cursor, completed, rest: written }
    }

    /// Checks what must always hold; for tests and debug builds.
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.allocated, self.pages.iter().map(Page::capacity).sum::<usize>());
        assert!(
            self.allocated <= self.size || self.pages.len() == 1,
            "{} bytes in a log of {}",
            self.allocated,
            self.size
        );
        for (page, following) in self.pages.iter().zip(self.pages.iter().skip(1)) {
            assert_eq!(page.next(), following.first());
            assert_eq!(page.position(page.next()), following.position(following.first()));
        }
        assert_eq!(self.pages.back().map_or(self.next, Page::next), self.next);
    }
}

/// The capacity of the page that a record of `payload` bytes makes necessary.
fn page_for(payload: usize) -> usize {
    PAGE.max(payload + HEADER)
}

#[cfg(test)]
mod tests;
