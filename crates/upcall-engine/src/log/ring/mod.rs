//! A ring of records in the order of their sequences, in one rendition. This module knows pages and readers, but not
//! endpoints.

use std::collections::VecDeque;

use upcall_wire::frame::Upcall;

use super::page::{HEADER, Page, Pen, Written};
use super::reading::{Advanced, Cursor, Reading};
use super::slices::Slices;
use crate::settings::Audience;

#[derive(Debug)]
pub(crate) struct Ring {
    pages: VecDeque<Page>,
    /// The sequence of the next record.
    next: u64,
    /// The position after the last record.
    head: u64,
    /// The last record that is not due to every endpoint; 0 if there is none, which is below every sequence.
    last_selective: u64,
    /// Free bytes of the last page; 0 without a page.
    room: usize,
}

impl Ring {
    pub(crate) fn new() -> Ring {
        Ring { pages: VecDeque::new(), next: 1, head: 0, last_selective: 0, room: 0 }
    }

    /// The sequence that the next record gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The oldest sequence that the ring still holds; the next one if the ring is empty.
    pub(crate) fn oldest(&self) -> u64 {
        self.pages.front().map_or(self.next, Page::first)
    }

    /// The position after the last record. Positions count what records cost: payload and header, in bytes.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// The pages, the oldest first.
    pub(crate) fn pages(&self) -> impl ExactSizeIterator<Item = &Page> + DoubleEndedIterator {
        self.pages.iter()
    }

    /// The position of a cursor. If its record was evicted, the position of the oldest record.
    pub(crate) fn position(&self, cursor: Cursor) -> u64 {
        let sequence = cursor.sequence.max(self.oldest());
        self.page(sequence).map_or(self.head, |page| {
            page.position(sequence) + u64::from(cursor.offset).min(page.payload(sequence).len() as u64)
        })
    }

    /// Whether the ring has no page.
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Whether the last page has no room for a record of `payload` bytes.
    pub(crate) fn needs_page(&self, payload: usize) -> bool {
        payload + HEADER > self.room
    }

    /// Adds an empty page.
    pub(crate) fn add_page(&mut self, page: impl FnOnce(u64, u64) -> Page) {
        let page = page(self.next, self.head);
        self.room = page.capacity();
        self.pages.push_back(page);
    }

    /// Removes the oldest page.
    pub(crate) fn evict(&mut self) -> Option<Page> {
        let page = self.pages.pop_front();
        if self.pages.is_empty() {
            self.room = 0;
        }
        page
    }

    /// A pen that appends records of one source and audience to the last page. [`Ring::note`] records what it wrote.
    pub(crate) fn pen(&mut self, audience: Audience, source: u64) -> Pen<'_> {
        self.pages.back_mut().map_or_else(Pen::default, |page| page.pen(audience, source))
    }

    /// Appends one record of `size` bytes, which `fill` writes. The last page must have room for it.
    #[inline]
    pub(crate) fn append(&mut self, size: usize, fill: impl FnOnce(&mut [u8]), audience: Audience, source: u64) {
        let Some(page) = self.pages.back_mut() else { return };
        let mut pen = page.pen(audience, source);
        fill(pen.push(size));
        let written = pen.written();
        let bytes = page.note(written);
        self.noted(written.count, bytes, audience);
    }

    /// Records what a pen wrote.
    pub(crate) fn note(&mut self, written: Written, audience: Audience) {
        if let Some(page) = self.pages.back_mut() {
            let bytes = page.note(written);
            self.noted(written.count, bytes, audience);
        }
    }

    /// The last page has `count` more records, which cost `bytes`.
    fn noted(&mut self, count: usize, bytes: usize, audience: Audience) {
        self.next += count as u64;
        self.head += bytes as u64;
        self.room -= bytes;
        if audience != Audience::All {
            self.last_selective = self.next - 1;
        }
    }

    /// Passes over `count` sequences that are not stored in this ring. Only while there is no page.
    pub(crate) fn pass_over(&mut self, count: usize) {
        debug_assert!(self.pages.is_empty());
        self.next += count as u64;
    }

    /// The page that holds record `sequence`; `None` for the sequence after the last record.
    fn page(&self, sequence: u64) -> Option<&Page> {
        debug_assert!(sequence >= self.oldest(), "record {sequence} was evicted");
        self.pages.get(self.index(sequence))
    }

    /// The index of the page that holds, or would hold, record `sequence`.
    fn index(&self, sequence: u64) -> usize {
        match self.pages.back() {
            // Nearly every reader reads the last page.
            Some(page) if page.first() <= sequence && sequence < page.next() => self.pages.len() - 1,
            _ => self.pages.partition_point(|page| page.next() <= sequence),
        }
    }

    /// The payload of record `sequence`.
    pub(crate) fn payload(&self, sequence: u64) -> Option<&[u8]> {
        self.page(sequence).map(|page| page.payload(sequence))
    }

    /// Whether some records may not be due to a reader: then it does not receive all adjacent bytes.
    pub(crate) fn is_selective(&self, reading: &Reading<'_>) -> bool {
        self.last_selective >= reading.cursor.sequence || reading.filters.is_some() || !reading.earlier.is_empty()
    }

    /// Everything that a reader receives, if that is one slice of the last page.
    pub(crate) fn whole(&self, reading: &Reading<'_>) -> Option<&[u8]> {
        let Reading { cursor, until, .. } = *reading;
        let page = self.pages.back().filter(|page| page.first() <= cursor.sequence)?;
        if cursor.sequence >= until || self.is_selective(reading) {
            return None;
        }
        page.payloads(cursor.sequence, until).get(cursor.offset as usize..).filter(|bytes| !bytes.is_empty())
    }

    /// Adds what a reader receives to `slices`, as far as they have room. Returns whether they hold all of it.
    pub(crate) fn slices<'a>(&'a self, reading: &Reading<'_>, slices: &mut Slices<'a>) -> bool {
        let Reading { cursor, until, .. } = *reading;
        if cursor.sequence >= until {
            return true;
        }
        if self.is_selective(reading) {
            return self.selective_slices(reading, slices);
        }
        let first = self.index(cursor.sequence);
        let mut skip = cursor.offset as usize;
        self.pages.range(first..).take_while(|page| page.first() < until).all(|page| {
            let from = cursor.sequence.max(page.first());
            slices.push(&page.payloads(from, until)[std::mem::take(&mut skip)..])
        })
    }

    /// The same where some records are not due to the reader: adjacent records that are due share a slice.
    fn selective_slices<'a>(&'a self, reading: &Reading<'_>, slices: &mut Slices<'a>) -> bool {
        let Reading { cursor, until, .. } = *reading;
        let mut sequence = cursor.sequence;
        let mut skip = cursor.offset as usize;
        while sequence < until {
            let Some(page) = self.page(sequence) else { return true };
            let end = until.min(page.next());
            while sequence < end {
                let run = sequence;
                while sequence < end && reading.is_due(page, sequence) {
                    sequence += 1;
                }
                if sequence > run && !slices.push(&page.payloads(run, sequence)[std::mem::take(&mut skip)..]) {
                    return false;
                }
                while sequence < end && !reading.is_due(page, sequence) {
                    sequence += 1;
                }
            }
        }
        true
    }

    /// The place of a reader after `written` bytes of what [`Ring::slices`] returned.
    pub(crate) fn advance(&self, reading: &Reading<'_>, mut written: usize) -> Advanced {
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
        let completed = cursor.sequence - reading.cursor.sequence;
        Advanced { cursor, completed, last: if completed > 0 { cursor.sequence - 1 } else { 0 }, rest: written }
    }

    /// The first records that are due to a reader, as far as they are adjacent and of one size: their payloads, and how
    /// many they are. `None` if nothing is due.
    pub(crate) fn run(&self, reading: &Reading<'_>, max_bytes: usize, max_count: usize) -> Option<(&[u8], usize)> {
        let Reading { cursor, until, .. } = *reading;
        let mut sequence = cursor.sequence;
        while sequence < until {
            let page = self.page(sequence)?;
            let end = until.min(page.next());
            while sequence < end && !reading.is_due(page, sequence) {
                sequence += 1;
            }
            if sequence == end {
                continue;
            }
            let size = page.payload(sequence).len();
            let is_alike = |next: u64| page.payload(next).len() == size && reading.is_due(page, next);
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

    /// The place of a reader once it has passed, received or not, at most `count` of the records that are due to it,
    /// and how many it passed.
    pub(crate) fn pass(&self, reading: &Reading<'_>, count: usize) -> (Cursor, usize) {
        let mut sequence = reading.cursor.sequence;
        let mut passed = 0;
        while sequence < reading.until
            && let Some(page) = self.page(sequence)
        {
            let is_due = reading.is_due(page, sequence);
            if is_due && passed == count {
                break;
            }
            passed += usize::from(is_due);
            sequence += 1;
        }
        (Cursor::at(sequence), passed)
    }

    fn selective_advance(&self, reading: &Reading<'_>, mut written: usize) -> Advanced {
        let Reading { mut cursor, until, .. } = *reading;
        let (mut completed, mut last) = (0, 0);
        'pages: while cursor.sequence < until {
            let Some(page) = self.page(cursor.sequence) else { break };
            while cursor.sequence < until.min(page.next()) {
                if reading.is_due(page, cursor.sequence) {
                    let pending = page.payload(cursor.sequence).len() - cursor.offset as usize;
                    if written < pending {
                        cursor.offset += written as u32;
                        written = 0;
                        break 'pages;
                    }
                    written -= pending;
                    completed += 1;
                    last = cursor.sequence;
                }
                cursor = Cursor::at(cursor.sequence + 1);
            }
        }
        Advanced { cursor, completed, last, rest: written }
    }

    /// Appends the frames that a reader receives to `out`, until it has `max` bytes. Sets the `prev` field of each as
    /// it must be for this reader, to which `prev` was due last. Returns whether that was all.
    pub(crate) fn copy(&self, reading: &Reading<'_>, mut prev: u64, max: usize, out: &mut Vec<u8>) -> bool {
        let mut sequence = reading.cursor.sequence;
        while sequence < reading.until
            && out.len() < max
            && let Some(page) = self.page(sequence)
        {
            if reading.is_due(page, sequence) {
                let start = out.len();
                out.extend_from_slice(page.payload(sequence));
                Upcall::patch_prev(&mut out[start..], prev);
                prev = sequence;
            }
            sequence += 1;
        }
        sequence >= reading.until
    }

    /// The records that are due to a reader, with their sequences.
    pub(crate) fn due<'a>(&'a self, reading: &'a Reading<'_>) -> impl Iterator<Item = (u64, &'a [u8])> {
        (reading.cursor.sequence..reading.until).filter_map(|sequence| {
            let page = self.page(sequence)?;
            reading.is_due(page, sequence).then(|| (sequence, page.payload(sequence)))
        })
    }

    /// Panics if an invariant does not hold.
    pub(crate) fn check_invariants(&self) {
        for (page, following) in self.pages.iter().zip(self.pages.iter().skip(1)) {
            assert_eq!(page.next(), following.first());
            assert_eq!(page.position(page.next()), following.position(following.first()));
        }
        assert_eq!(self.pages.back().map_or(self.next, Page::next), self.next);
    }
}

impl Reading<'_> {
    fn is_due(&self, page: &Page, sequence: u64) -> bool {
        page.header(sequence).is_due_to(self.reader)
            && self
                .filters_at(sequence)
                .is_none_or(|filters| filters.match_bytes(Upcall::topic_of(page.payload(sequence))))
    }
}

#[cfg(test)]
mod tests;
