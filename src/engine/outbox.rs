//! What an endpoint is told besides upcalls: the rest of a record that it was cut off in, and a farewell. Records that
//! several endpoints were cut off in are kept once, and all of them within a cap.

use std::collections::HashMap;
use std::rc::{Rc, Weak};

use super::log::Slices;

/// Bytes for one endpoint, behind what is due to it from the log.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// A record that left the log while the endpoint was inside it.
    record: Option<Rc<[u8]>>,
    farewell: Vec<u8>,
    /// How much of both is written.
    written: usize,
}

impl Outbox {
    pub(super) fn new(farewell: String) -> Outbox {
        Outbox { farewell: farewell.into_bytes(), ..Outbox::default() }
    }

    /// The same, behind the rest of a record of which `written` bytes are out.
    pub(super) fn behind(self, record: Rc<[u8]>, written: usize) -> Outbox {
        Outbox { record: Some(record), written, ..self }
    }

    /// All of it, for those who get it in one datagram.
    pub(super) fn farewell(&self) -> &[u8] {
        &self.farewell
    }

    pub(super) fn slices<'a>(&'a self, slices: &mut Slices<'a>) {
        let record = self.record.as_deref().unwrap_or_default();
        let split = self.written.min(record.len());
        slices.push(&record[split..]);
        slices.push(&self.farewell[self.written - split..]);
    }

    /// Takes note of `written` more bytes; says whether that was all.
    pub(super) fn advance(&mut self, written: usize) -> bool {
        self.written += written;
        self.written == self.record.as_ref().map_or(0, |record| record.len()) + self.farewell.len()
    }
}

/// The records that endpoints were cut off in, by sequence.
#[derive(Debug, Default)]
pub(super) struct CutRecords {
    records: HashMap<u64, Weak<[u8]>>,
}

impl CutRecords {
    /// One shared copy of record `sequence`; none if the copies would exceed `cap` bytes together, but for a first one.
    pub(super) fn keep(&mut self, sequence: u64, payload: &[u8], cap: usize) -> Option<Rc<[u8]>> {
        if let Some(record) = self.records.get(&sequence).and_then(Weak::upgrade) {
            return Some(record);
        }
        self.records.retain(|_, record| record.strong_count() > 0);
        let kept: usize = self.records.values().filter_map(Weak::upgrade).map(|record| record.len()).sum();
        if kept > 0 && kept + payload.len() > cap {
            return None;
        }
        let record = Rc::from(payload);
        self.records.insert(sequence, Rc::downgrade(&record));
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_kept_once_and_all_of_them_within_the_cap() {
        let mut cut = CutRecords::default();
        let first = cut.keep(1, &[1; 60], 100).unwrap();
        assert!(Rc::ptr_eq(&first, &cut.keep(1, &[1; 60], 100).unwrap()));
        assert!(cut.keep(2, &[2; 60], 100).is_none());
        drop(first);
        assert!(cut.keep(2, &[2; 60], 100).is_some());
    }

    #[test]
    fn the_rest_of_the_record_comes_before_the_farewell() {
        let mut outbox = Outbox::new("bye".into()).behind(Rc::from(&b"record"[..]), 4);
        let mut written = Vec::new();
        loop {
            let mut slices = Slices::new();
            outbox.slices(&mut slices);
            written.push(slices[0][0]);
            if outbox.advance(1) {
                break;
            }
        }
        assert_eq!(written, b"rdbye");
    }
}
