//! Finds the messages of a run in the bytes that a receiver reads, whatever the daemon's format adds around them and
//! wherever the reads split them. Bytes between two messages that the format does not explain are counted as upcalls of
//! other senders.

use memchr::memchr_iter;

use super::message::{MessageFormat, Stamp};

/// The number of bytes that are kept at the end of other bytes than messages: they may contain the daemon's farewell.
const KEEP: usize = 64;

/// Something that a scanner found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// A message of this run.
    Message(Stamp),
    /// Bytes that began like one and were not.
    Damaged,
}

/// The bytes between two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Between {
    bytes: usize,
    newlines: u64,
}

/// Scans one stream.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    tail: Vec<u8>,
    /// The bytes since the last message.
    between: Between,
    /// The number of lines that the format adds between two messages, as far as it is known: the fewest found so far.
    usual: Option<Between>,
    /// Whether a message was found.
    begun: bool,
    foreign: u64,
}

impl Scanner {
    /// The unfinished end of the scanned bytes. The caller must put it before the next bytes.
    pub(super) fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// The number of lines between messages that the format does not explain: upcalls of other senders.
    pub(super) fn foreign(&self) -> u64 {
        self.foreign
    }

    /// Whether bytes were received, but no message yet.
    pub(super) fn has_only_foreign(&self) -> bool {
        !self.begun && (self.between.bytes > 0 || !self.tail.is_empty())
    }

    /// Scans `bytes`: the tail, followed by the bytes that were read. Calls `found` for each message.
    pub(super) fn scan(&mut self, format: &MessageFormat, bytes: &[u8], mut found: impl FnMut(Finding)) {
        let mut rest = bytes;
        while let Some(at) = self.next(format, rest) {
            self.skip(&rest[..at]);
            rest = &rest[at..];
            if rest.len() < format.size() {
                return self.keep(rest);
            }
            self.begin_message();
            let (message, behind) = rest.split_at(format.size());
            match format.read(message) {
                Some(stamp) => {
                    found(Finding::Message(stamp));
                    rest = behind;
                }
                None => {
                    // Another message may begin within these bytes.
                    found(Finding::Damaged);
                    rest = &rest[format.mark().len()..];
                }
            }
        }
        let kept = rest.len().min(KEEP);
        self.skip(&rest[..rest.len() - kept]);
        self.keep(&rest[rest.len() - kept..]);
    }

    /// The index of the next mark. It is usually as far away as the last time, which is therefore checked first.
    fn next(&self, format: &MessageFormat, rest: &[u8]) -> Option<usize> {
        let expected = self.usual.map_or(0, |usual| usual.bytes.saturating_sub(self.between.bytes));
        match rest.get(expected..) {
            Some(there) if there.starts_with(format.mark()) => Some(expected),
            _ => format.find(rest),
        }
    }

    /// Records bytes that are not a message.
    fn skip(&mut self, bytes: &[u8]) {
        match self.usual {
            Some(usual) if self.between.bytes == 0 && usual.bytes == bytes.len() => self.between = usual,
            _ => {
                self.between.bytes = self.between.bytes.saturating_add(bytes.len());
                self.between.newlines += memchr_iter(b'\n', bytes).count() as u64;
            }
        }
    }

    /// Called at the beginning of a message: compares the bytes before it with those that the format adds.
    fn begin_message(&mut self) {
        let between = std::mem::take(&mut self.between);
        if !std::mem::replace(&mut self.begun, true) {
            // The bytes before the first message are not those between two messages.
            return;
        }
        match self.usual {
            Some(usual) if between == usual => {}
            Some(usual) if between.newlines > usual.newlines => self.foreign += between.newlines - usual.newlines,
            _ => self.usual = Some(between),
        }
    }

    fn keep(&mut self, rest: &[u8]) {
        self.tail.clear();
        self.tail.extend_from_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Scans the stream, split at these indices.
    fn scan(format: &MessageFormat, stream: &[u8], splits: &[usize]) -> (Vec<Finding>, Scanner) {
        let mut scanner = Scanner::default();
        let mut all = Vec::new();
        let mut start = 0;
        for end in splits.iter().copied().chain([stream.len()]) {
            let bytes = [scanner.tail(), &stream[start..end]].concat();
            scanner.scan(format, &bytes, |found| all.push(found));
            start = end;
        }
        (all, scanner)
    }

    fn stream(format: &MessageFormat, before: &str, after: &str, count: u64) -> Vec<u8> {
        let mut out = Vec::new();
        for index in 0..count {
            out.extend_from_slice(before.as_bytes());
            format.write(Stamp { index, time: index * 3 }, &mut out);
            out.extend_from_slice(after.as_bytes());
        }
        out
    }

    fn expected(count: u64) -> Vec<Finding> {
        (0..count).map(|index| Finding::Message(Stamp { index, time: index * 3 })).collect()
    }

    const FORMATS: [(&str, &str); 4] =
        [("", ""), ("Upcall event: Processing ", ""), ("<", ">"), ("2026-01-01T00:00:00.000Z\n", "\n--\n")];

    #[test]
    fn messages_are_found_wherever_the_stream_is_split() {
        let format = MessageFormat::new(7, 64);
        for (before, after) in FORMATS {
            let stream = stream(&format, before, after, 3);
            for split in 0..=stream.len() {
                let (found, scanner) = scan(&format, &stream, &[split]);
                assert_eq!((found, scanner.foreign()), (expected(3), 0), "{before:?} split at {split}");
            }
            let bytes: Vec<usize> = (0..stream.len()).collect();
            assert_eq!(scan(&format, &stream, &bytes).0, expected(3), "{before:?} byte by byte");
        }
    }

    #[test]
    fn other_senders_are_ignored_and_counted() {
        let (ours, theirs) = (MessageFormat::new(1, 64), MessageFormat::new(2, 64));
        for (before, after) in FORMATS {
            let mut all = stream(&ours, before, after, 2);
            all.extend(stream(&theirs, "", "", 2));
            all.extend_from_slice(b"hello\n");
            let third = stream(&ours, before, after, 3);
            all.extend_from_slice(&third[third.len() / 3 * 2..]);
            let (found, scanner) = scan(&ours, &all, &[100, 200]);
            assert_eq!((found, scanner.foreign()), (expected(3), 3), "{before:?}");
        }
    }

    #[test]
    fn the_end_of_what_is_not_a_message_is_kept() {
        let format = MessageFormat::new(1, 64);
        let all = [stream(&format, "", "", 2), b"upcalld: shutdown\n".to_vec()].concat();
        for split in 0..all.len() {
            let (found, scanner) = scan(&format, &all, &[split]);
            assert_eq!((found, scanner.tail()), (expected(2), &b"upcalld: shutdown\n"[..]));
        }
        let (found, scanner) = scan(&format, &b"x".repeat(1_000), &[500]);
        assert_eq!((found, scanner.tail().len(), scanner.has_only_foreign()), (vec![], KEEP, true));
    }

    #[test]
    fn damage_costs_one_message() {
        let format = MessageFormat::new(1, 64);
        let mut all = stream(&format, "> ", "", 3);
        all[66 + 40] = b'?';
        let found = scan(&format, &all, &[]).0;
        assert_eq!(found, [expected(1)[0], Finding::Damaged, expected(3)[2]]);
        // A truncated message does not hide the next one.
        let all = [&stream(&format, "", "", 1)[..30], &stream(&format, "", "", 1)].concat();
        assert_eq!(scan(&format, &all, &[]).0, [Finding::Damaged, expected(1)[0]]);
    }

    proptest! {
        #[test]
        fn splits_change_nothing(kind in 0..FORMATS.len(), mut splits in prop::collection::vec(0usize..900, 0..20)) {
            let format = MessageFormat::new(9, 80);
            let mut stream = stream(&format, FORMATS[kind].0, FORMATS[kind].1, 9);
            stream.extend_from_slice(b"someone else\n");
            stream.truncate(900);
            let whole = scan(&format, &stream, &[]);
            splits.iter_mut().for_each(|split| *split = (*split).min(stream.len()));
            splits.sort_unstable();
            let split = scan(&format, &stream, &splits);
            prop_assert_eq!(split.0, whole.0);
            prop_assert_eq!(split.1.foreign(), whole.1.foreign());
        }
    }
}
