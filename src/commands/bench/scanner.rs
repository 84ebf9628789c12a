//! Finds the messages of a run in what a receiver reads, whatever the daemon's format puts around them, and however the
//! reads cut them. What is between them is taken for what the format adds, or counted as what others said.

use memchr::memchr_iter;

use super::message::{Format, Stamp};

/// Kept of what is no message: the daemon's farewell is in the last of it.
const KEEP: usize = 64;

/// Something that a scanner finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A message of this run.
    Message(Stamp),
    /// What began like one, and was not.
    Damaged,
}

/// The bytes between two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Between {
    bytes: usize,
    newlines: u64,
}

/// Follows one stream.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    tail: Vec<u8>,
    /// What has gone by since the last message.
    between: Between,
    /// What the format puts between two messages, as far as is known: the fewest lines that were seen there.
    usual: Option<Between>,
    begun: bool,
    foreign: u64,
}

impl Scanner {
    /// What is not finished yet: it has to stand in front of the next bytes when they are scanned.
    pub(super) fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Lines between the messages that the format does not explain: upcalls of what others said.
    pub(super) fn foreign(&self) -> u64 {
        self.foreign
    }

    /// Whether anything came that was no message, before the first one.
    pub(super) fn heard_others(&self) -> bool {
        !self.begun && (self.between.bytes > 0 || !self.tail.is_empty())
    }

    /// Goes through `bytes`: the tail, and what has been read behind it.
    pub(super) fn scan(&mut self, format: &Format, bytes: &[u8], mut found: impl FnMut(Found)) {
        let mut rest = bytes;
        while let Some(at) = self.next(format, rest) {
            self.pass(&rest[..at]);
            rest = &rest[at..];
            if rest.len() < format.size() {
                return self.keep(rest);
            }
            self.arrive();
            let (message, behind) = rest.split_at(format.size());
            match format.read(message) {
                Some(stamp) => {
                    found(Found::Message(stamp));
                    rest = behind;
                }
                None => {
                    // Another one may begin within it.
                    found(Found::Damaged);
                    rest = &rest[format.mark().len()..];
                }
            }
        }
        let kept = rest.len().min(KEEP);
        self.pass(&rest[..rest.len() - kept]);
        self.keep(&rest[rest.len() - kept..]);
    }

    /// Where the next mark is: as a rule, as far away as the last time.
    fn next(&self, format: &Format, rest: &[u8]) -> Option<usize> {
        let expected = self.usual.map_or(0, |usual| usual.bytes.saturating_sub(self.between.bytes));
        match rest.get(expected..) {
            Some(there) if there.starts_with(format.mark()) => Some(expected),
            _ => format.find(rest),
        }
    }

    /// Takes note of bytes that are no message.
    fn pass(&mut self, bytes: &[u8]) {
        match self.usual {
            Some(usual) if self.between.bytes == 0 && usual.bytes == bytes.len() => self.between = usual,
            _ => {
                self.between.bytes = self.between.bytes.saturating_add(bytes.len());
                self.between.newlines += memchr_iter(b'\n', bytes).count() as u64;
            }
        }
    }

    /// A message begins here.
    fn arrive(&mut self) {
        let between = std::mem::take(&mut self.between);
        if !std::mem::replace(&mut self.begun, true) {
            // What stands in front of the first one is not what stands between two.
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

    /// Scans reads of these lengths, and then the rest.
    fn scan(format: &Format, stream: &[u8], cuts: &[usize]) -> (Vec<Found>, Scanner) {
        let mut scanner = Scanner::default();
        let mut all = Vec::new();
        let mut start = 0;
        for end in cuts.iter().copied().chain([stream.len()]) {
            let bytes = [scanner.tail(), &stream[start..end]].concat();
            scanner.scan(format, &bytes, |found| all.push(found));
            start = end;
        }
        (all, scanner)
    }

    fn stream(format: &Format, before: &str, after: &str, count: u64) -> Vec<u8> {
        let mut out = Vec::new();
        for index in 0..count {
            out.extend_from_slice(before.as_bytes());
            format.write(Stamp { index, time: index * 3 }, &mut out);
            out.extend_from_slice(after.as_bytes());
        }
        out
    }

    fn expected(count: u64) -> Vec<Found> {
        (0..count).map(|index| Found::Message(Stamp { index, time: index * 3 })).collect()
    }

    const FORMATS: [(&str, &str); 4] =
        [("", ""), ("Upcall event: Processing ", ""), ("<", ">"), ("2026-01-01T00:00:00.000Z\n", "\n--\n")];

    #[test]
    fn messages_are_found_wherever_the_stream_is_cut() {
        let format = Format::new(7, 64);
        for (before, after) in FORMATS {
            let stream = stream(&format, before, after, 3);
            for cut in 0..=stream.len() {
                let (found, scanner) = scan(&format, &stream, &[cut]);
                assert_eq!((found, scanner.foreign()), (expected(3), 0), "{before:?} cut at {cut}");
            }
            let bytes: Vec<usize> = (0..stream.len()).collect();
            assert_eq!(scan(&format, &stream, &bytes).0, expected(3), "{before:?} byte by byte");
        }
    }

    #[test]
    fn others_are_ignored_and_counted() {
        let (ours, theirs) = (Format::new(1, 64), Format::new(2, 64));
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
    fn the_last_of_what_is_no_message_is_kept() {
        let format = Format::new(1, 64);
        let all = [stream(&format, "", "", 2), b"upcalld: shutdown\n".to_vec()].concat();
        for cut in 0..all.len() {
            let (found, scanner) = scan(&format, &all, &[cut]);
            assert_eq!((found, scanner.tail()), (expected(2), &b"upcalld: shutdown\n"[..]));
        }
        let (found, scanner) = scan(&format, &b"x".repeat(1_000), &[500]);
        assert_eq!((found, scanner.tail().len(), scanner.heard_others()), (vec![], KEEP, true));
    }

    #[test]
    fn damage_costs_one_message() {
        let format = Format::new(1, 64);
        let mut all = stream(&format, "> ", "", 3);
        all[66 + 40] = b'?';
        let found = scan(&format, &all, &[]).0;
        assert_eq!(found, [expected(1)[0], Found::Damaged, expected(3)[2]]);
        // A message that was cut short hides no other.
        let all = [&stream(&format, "", "", 1)[..30], &stream(&format, "", "", 1)].concat();
        assert_eq!(scan(&format, &all, &[]).0, [Found::Damaged, expected(1)[0]]);
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(kind in 0..FORMATS.len(), mut cuts in prop::collection::vec(0usize..900, 0..20)) {
            let format = Format::new(9, 80);
            let mut stream = stream(&format, FORMATS[kind].0, FORMATS[kind].1, 9);
            stream.extend_from_slice(b"someone else\n");
            stream.truncate(900);
            let whole = scan(&format, &stream, &[]);
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(stream.len()));
            cuts.sort_unstable();
            let cut = scan(&format, &stream, &cuts);
            prop_assert_eq!(cut.0, whole.0);
            prop_assert_eq!(cut.1.foreign(), whole.1.foreign());
        }
    }
}
