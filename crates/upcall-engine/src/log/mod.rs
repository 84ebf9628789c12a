//! The log: every accepted input once, as a frame, with the sequence that gives the one total order; and, while there
//! are text endpoints, as text. The size of the log bounds the memory of both together, whatever the messages are.
//!
//! This module knows filters and readers, but not endpoints.

pub(crate) mod filters;
mod page;
pub(crate) mod reading;
mod ring;
pub(crate) mod slices;

use crate::settings::Audience;
use page::{HEADER, Page, Pen, Written};
use reading::Cursor;
use ring::Ring;

/// The size of a page, in bytes; a larger record gets a page of its own.
pub(crate) const PAGE: usize = 256 * 1024;

/// A rendition of the log. Each endpoint reads one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rendition {
    Frames,
    Text,
}

/// The oldest sequence of each rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Oldest {
    frames: u64,
    text: u64,
}

impl Oldest {
    pub(crate) fn of(self, rendition: Rendition) -> u64 {
        match rendition {
            Rendition::Frames => self.frames,
            Rendition::Text => self.text,
        }
    }

    /// A reader at this sequence, or after it, lacks nothing of either rendition.
    pub(crate) fn latest(self) -> u64 {
        self.frames.max(self.text)
    }
}

/// At most this many bytes of unread text are kept, a few turns' worth.
const UNREAD_TEXT: usize = 32 * 1024;

#[derive(Debug)]
pub(crate) struct Log {
    /// Distinguishes this log from that of another run of the daemon: a sequence has a meaning only in one log.
    id: u64,
    frames: Ring,
    text: Ring,
    /// The bound, in bytes.
    size: usize,
    /// Memory of all pages together, in bytes.
    allocated: usize,
    /// The page that was removed last: the next one reuses its memory.
    spare: Option<Page>,
}

/// The pens of both renditions.
#[derive(Debug, Default)]
pub(crate) struct Pens<'a> {
    pub(crate) frames: Pen<'a>,
    /// Not used while no text is kept.
    pub(crate) text: Pen<'a>,
}

impl Pens<'_> {
    /// Whether records of these sizes fit.
    #[inline]
    pub(crate) fn have_room(&self, frame: usize, text: Option<usize>) -> bool {
        self.frames.has_room(frame) && text.is_none_or(|text| self.text.has_room(text))
    }

    pub(crate) fn written(&self) -> (Written, Written) {
        (self.frames.written(), self.text.written())
    }
}

impl Log {
    pub(crate) fn new(id: u64, size: usize) -> Log {
        Log { id, frames: Ring::new(), text: Ring::new(), size, allocated: 0, spare: None }
    }

    /// The id of the log, as WELCOME carries it.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The sequence that the next record gets.
    pub(crate) fn next(&self) -> u64 {
        self.frames.next()
    }

    pub(crate) fn ring(&self, rendition: Rendition) -> &Ring {
        match rendition {
            Rendition::Frames => &self.frames,
            Rendition::Text => &self.text,
        }
    }

    /// The oldest sequences that the log still holds; the next sequence for an empty rendition.
    pub(crate) fn oldest(&self) -> Oldest {
        Oldest { frames: self.frames.oldest(), text: self.text.oldest() }
    }

    /// Memory in use, in bytes.
    pub(crate) fn allocated(&self) -> usize {
        self.allocated
    }

    /// The most memory that it may use, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The position after the last record. Positions count the memory of frames: the frame and a header, in bytes.
    pub(crate) fn head(&self) -> u64 {
        self.frames.head()
    }

    /// The position of a cursor of either rendition. Both are measured by the frames, so that distances compare.
    pub(crate) fn position(&self, cursor: Cursor) -> u64 {
        self.frames.position(cursor)
    }

    /// Appends a record and returns its sequence. Evicts the oldest pages if it needs their room, see
    /// [`Log::oldest_after`]. The frame is `frame` bytes long, and `fill` writes it. A record without text evicts all
    /// texts, because a rendition must be contiguous.
    pub(crate) fn append(
        &mut self,
        frame: usize,
        fill: impl FnOnce(&mut [u8]),
        text: Option<&[u8]>,
        audience: Audience,
        source: u64,
    ) -> u64 {
        let sequence = self.next();
        if text.is_none() {
            while let Some(page) = self.text.evict() {
                self.allocated -= page.capacity();
            }
        }
        if self.needs_page(frame, text.map(<[u8]>::len)) {
            self.add_pages(frame, text.map(<[u8]>::len));
        }
        match text {
            Some(text) => self.text.append(text.len(), |slot| slot.copy_from_slice(text), audience, source),
            None => self.text.pass_over(1),
        }
        self.frames.append(frame, fill, audience, source);
        sequence
    }

    /// Pens that append records of one source and audience, with texts or without, as far as the pages have room: they
    /// displace nothing. [`Log::note`] records what they wrote.
    pub(crate) fn pens(&mut self, has_text: bool, audience: Audience, source: u64) -> Pens<'_> {
        if has_text == self.text.is_empty() {
            // The text needs its first page, or its pages must be removed: append() does either.
            return Pens::default();
        }
        Pens { frames: self.frames.pen(audience, source), text: self.text.pen(audience, source) }
    }

    /// Records what the pens wrote.
    pub(crate) fn note(&mut self, (frames, text): (Written, Written), audience: Audience) {
        if frames.count == 0 {
            return;
        }
        match text.count {
            0 => self.text.pass_over(frames.count),
            _ => self.text.note(text, audience),
        }
        self.frames.note(frames, audience);
    }

    /// Whether a record of these sizes needs a new page, which may displace others.
    pub(crate) fn needs_page(&self, frame: usize, text: Option<usize>) -> bool {
        self.frames.needs_page(frame) || text.is_some_and(|text| self.text.needs_page(text))
    }

    /// The oldest sequences that the log will hold once a record of these sizes is appended.
    pub(crate) fn oldest_after(&self, frame: usize, text: Option<usize>) -> Oldest {
        let needs = |ring: &Ring, evicted: usize, payload: usize| {
            let needs_page = ring.needs_page(payload) || evicted == ring.pages().len();
            if needs_page { page_for(payload) } else { 0 }
        };
        let (mut frames, mut texts) = (self.frames.pages().peekable(), self.text.pages().peekable());
        let (mut evicted, mut evicted_texts, mut freed) = (0, 0, 0);
        if text.is_none() {
            freed += texts.by_ref().map(Page::capacity).sum::<usize>();
        }
        loop {
            let for_text = text.map_or(0, |text| needs(&self.text, evicted_texts, text));
            let fits = self.allocated + needs(&self.frames, evicted, frame) + for_text <= self.size + freed;
            let oldest = match (fits, frames.peek(), texts.peek()) {
                (true, ..) | (_, None, None) => break,
                (_, Some(page), Some(text)) if text.next() < page.next() => {
                    &mut texts as &mut dyn Iterator<Item = &Page>
                }
                (_, None, Some(_)) => &mut texts,
                (_, Some(_), _) => &mut frames,
            };
            freed += oldest.next().map_or(0, Page::capacity);
            evicted = self.frames.pages().len() - frames.len();
            evicted_texts = self.text.pages().len() - texts.len();
        }
        let next = self.next();
        Oldest {
            frames: frames.peek().map_or(next, |page| page.first()),
            text: texts.peek().map_or(next, |page| page.first()),
        }
    }

    /// Adds the pages that a record of these sizes needs, evicting the oldest while there is no room.
    fn add_pages(&mut self, frame: usize, text: Option<usize>) {
        let needs = |ring: &Ring, payload: usize| ring.needs_page(payload).then(|| page_for(payload));
        loop {
            let (for_frame, for_text) = (needs(&self.frames, frame), text.and_then(|text| needs(&self.text, text)));
            let capacity = for_frame.unwrap_or(0) + for_text.unwrap_or(0);
            if self.allocated + capacity <= self.size || !self.evict() {
                for_frame.inspect(|capacity| self.add_page(Rendition::Frames, *capacity));
                for_text.inspect(|capacity| self.add_page(Rendition::Text, *capacity));
                return;
            }
        }
    }

    /// Evicts the oldest page of both renditions. Returns whether there was one.
    fn evict(&mut self) -> bool {
        let next = |ring: &Ring| ring.pages().next().map(Page::next);
        let page = match (next(&self.frames), next(&self.text)) {
            (Some(frames), Some(text)) if text < frames => self.text.evict(),
            (None, _) => self.text.evict(),
            _ => self.frames.evict(),
        };
        let Some(page) = page else { return false };
        self.allocated -= page.capacity();
        self.spare = Some(page);
        true
    }

    /// Evicts the texts, which no endpoint reads any more, once there are many. The next texts then reuse the same
    /// memory, which stays in the processor's caches, and frames can use the rest of the room.
    pub(crate) fn forget_unread_texts(&mut self) {
        if self.text.pages().next_back().is_none_or(|page| page.used() < UNREAD_TEXT) {
            return;
        }
        while let Some(page) = self.text.evict() {
            self.allocated -= page.capacity();
            self.spare = Some(page);
        }
    }

    fn add_page(&mut self, rendition: Rendition, capacity: usize) {
        let spare = self.spare.take().filter(|page| page.capacity() == capacity);
        self.allocated += capacity;
        let ring = match rendition {
            Rendition::Frames => &mut self.frames,
            Rendition::Text => &mut self.text,
        };
        ring.add_page(|next, head| match spare {
            Some(page) => page.reuse(next, head),
            None => Page::new(capacity, next, head),
        });
    }

    /// Panics if an invariant does not hold.
    pub(crate) fn check_invariants(&self) {
        self.frames.check_invariants();
        self.text.check_invariants();
        assert_eq!(self.frames.next(), self.text.next());
        let capacity = self.frames.pages().chain(self.text.pages()).map(Page::capacity).sum::<usize>();
        assert_eq!(self.allocated, capacity);
        assert!(
            self.allocated <= self.size || (self.frames.pages().len() <= 1 && self.text.pages().len() <= 1),
            "{} bytes in a log of {}",
            self.allocated,
            self.size
        );
    }
}

/// The capacity of the page that a record of `payload` bytes needs.
fn page_for(payload: usize) -> usize {
    PAGE.max(payload + HEADER)
}

#[cfg(test)]
mod tests;
