//! A page of the log. Payloads grow from the front, record headers from the back, and the page is full when they meet.
//! So the memory of a page is known exactly, whatever the sizes of its messages, and pending payloads are one slice of
//! bytes.

use crate::settings::Audience;

/// What a record costs beyond its payload, in bytes.
pub(crate) const HEADER: usize = 16;

/// What the log knows about a record besides its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// Where its payload ends in the page.
    end: u32,
    audience: Audience,
    /// The number of the endpoint that sent it.
    source: u64,
}

impl RecordHeader {
    pub(crate) fn is_due_to(&self, reader: u64) -> bool {
        match self.audience {
            Audience::All => true,
            Audience::Others => self.source != reader,
            Audience::Sender => self.source == reader,
        }
    }
}

/// Appends records to a page without touching the page itself for each. The page has them once [`Page::note`] has
/// recorded them.
#[derive(Debug, Default)]
pub(crate) struct Pen<'a> {
    /// The free bytes between payloads and headers.
    free: &'a mut [u8],
    /// Where the payloads end in the page.
    end: usize,
    count: usize,
    audience: u64,
    source: u64,
}

/// What a [`Pen`] wrote.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// Where the payloads end in the page.
    end: usize,
    /// Records.
    pub(crate) count: usize,
}

impl<'a> Pen<'a> {
    /// Whether a record of `size` bytes fits.
    #[inline]
    pub(crate) fn has_room(&self, size: usize) -> bool {
        size + HEADER <= self.free.len()
    }

    /// Appends a record of `size` bytes, for which there must be [room](Pen::has_room). The caller fills the slice.
    #[inline]
    pub(crate) fn push(&mut self, size: usize) -> &'a mut [u8] {
        let (payload, free) = std::mem::take(&mut self.free).split_at_mut(size);
        let (free, header) = free.split_last_chunk_mut::<HEADER>().expect("the caller has checked that there is room");
        self.free = free;
        self.end += size;
        self.count += 1;
        header[..8].copy_from_slice(&self.source.to_le_bytes());
        header[8..].copy_from_slice(&(self.end as u64 | self.audience << 32).to_le_bytes());
        payload
    }

    pub(crate) fn written(&self) -> Written {
        Written { end: self.end, count: self.count }
    }
}

#[derive(Debug)]
pub(crate) struct Page {
    buffer: Box<[u8]>,
    /// Payload bytes.
    used: usize,
    /// Records.
    count: usize,
    /// The sequence of its first record.
    first: u64,
    /// The log position (see [`Log::position`](super::Log::position)) of its first record.
    base: u64,
}

impl Page {
    pub(crate) fn new(capacity: usize, first: u64, base: u64) -> Page {
        debug_assert!(u32::try_from(capacity).is_ok());
        Page { buffer: vec![0; capacity].into_boxed_slice(), used: 0, count: 0, first, base }
    }

    /// Reuses the memory for an empty page.
    pub(crate) fn reuse(self, first: u64, base: u64) -> Page {
        Page { used: 0, count: 0, first, base, ..self }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes of payload.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The sequence after its last record.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.count as u64
    }

    /// A pen that appends records of one source and audience.
    pub(crate) fn pen(&mut self, audience: Audience, source: u64) -> Pen<'_> {
        let end = self.buffer.len() - self.count * HEADER;
        Pen { free: &mut self.buffer[self.used..end], end: self.used, count: 0, audience: audience as u64, source }
    }

    /// Records what a [`Pen`] wrote. Returns what the records cost, in bytes.
    pub(crate) fn note(&mut self, written: Written) -> usize {
        let payload = written.end - self.used;
        self.used = written.end;
        self.count += written.count;
        payload + written.count * HEADER
    }

    /// The header of record `sequence`, which is in this page.
    pub(crate) fn header(&self, sequence: u64) -> RecordHeader {
        let index = (sequence - self.first) as usize;
        let at = self.buffer.len() - (index + 1) * HEADER;
        let bytes: &[u8; HEADER] = self.buffer[at..at + HEADER].try_into().expect("a header is 16 bytes long");
        let [s0, s1, s2, s3, s4, s5, s6, s7, e0, e1, e2, e3, audience, ..] = *bytes;
        RecordHeader {
            source: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            end: u32::from_le_bytes([e0, e1, e2, e3]),
            audience: match audience {
                0 => Audience::All,
                1 => Audience::Others,
                _ => Audience::Sender,
            },
        }
    }

    /// Where the payload of `sequence` starts. For the sequence after the last record: where the payloads end.
    pub(crate) fn start(&self, sequence: u64) -> usize {
        if sequence == self.first { 0 } else { self.header(sequence - 1).end as usize }
    }

    pub(crate) fn payload(&self, sequence: u64) -> &[u8] {
        &self.buffer[self.start(sequence)..self.start(sequence + 1)]
    }

    /// The payloads of the sequences from `from` up to `until`, as one slice.
    pub(crate) fn payloads(&self, from: u64, until: u64) -> &[u8] {
        &self.buffer[self.start(from)..self.start(until.min(self.next()))]
    }

    /// The record whose payload holds the byte at `offset`, and the offset inside it. A boundary belongs to the record
    /// after it, so that records without payload are passed.
    pub(crate) fn locate(&self, offset: usize) -> (u64, usize) {
        let (mut low, mut high) = (self.first, self.next());
        while low < high {
            let middle = low + (high - low) / 2;
            if (self.header(middle).end as usize) <= offset { low = middle + 1 } else { high = middle }
        }
        (low, offset - self.start(low))
    }

    /// The log position of the beginning of record `sequence`.
    pub(crate) fn position(&self, sequence: u64) -> u64 {
        self.base + self.start(sequence) as u64 + (sequence - self.first) * HEADER as u64
    }
}
