//! Splits a text stream from the daemon into upcalls (lines, and tails without a newline) and the farewell.
//!
//! Pure. It returns how long to wait for more bytes, and the caller calls back when that time has passed without any.

use std::mem;
use std::ops::ControlFlow;
use std::time::Duration;

use upcall_wire::farewell::Farewell;

/// After this time without new bytes, a tail without a newline counts as an upcall. An upcall ends in a newline only if
/// its message did.
const TAIL_QUIET: Duration = Duration::from_millis(50);

/// After this time without end of file, a line that reads like a farewell counts as an upcall.
const FAREWELL_QUIET: Duration = Duration::from_secs(1);

/// At most about this many bytes are held until a newline arrives. A longer tail is an upcall at once.
const MAX_HELD: usize = 16 << 20;

/// Splits a text stream into upcalls.
#[derive(Debug, Default)]
pub(in crate::commands) struct Splitter {
    buffer: Vec<u8>,
    /// The buffer contains no newline before this index.
    scanned: usize,
    last: LastUpcall,
}

/// How the last upcall ended.
#[derive(Debug, Default)]
enum LastUpcall {
    /// It was a complete line.
    #[default]
    Complete,
    /// It had no newline: one may still follow, before a farewell.
    Open,
    /// It read like a farewell but no end of file followed, and nothing else has arrived since.
    PossibleFarewell(Farewell),
}

impl Splitter {
    /// Accepts bytes that were read.
    pub(in crate::commands) fn push(&mut self, bytes: &[u8]) {
        if let LastUpcall::PossibleFarewell(_) = self.last {
            self.last = LastUpcall::Complete;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Passes every complete line, its newline included, to `each` until that breaks. A last line that reads like a
    /// farewell is held back.
    pub(in crate::commands) fn lines(&mut self, mut each: impl FnMut(&[u8]) -> ControlFlow<()>) -> ControlFlow<()> {
        if let LastUpcall::Open = self.last {
            self.last = LastUpcall::Complete;
            if self.buffer.strip_prefix(b"\n").is_some_and(|line| Farewell::parse(line).is_some()) {
                // This newline ends the line that the last upcall left open. It is not an upcall itself.
                self.buffer.remove(0);
            }
        }
        let mut start = 0;
        let mut flow = ControlFlow::Continue(());
        while flow.is_continue()
            && let Some(found) = memchr::memchr(b'\n', &self.buffer[self.scanned..])
        {
            let end = self.scanned + found + 1;
            let line = &self.buffer[start..end];
            if end == self.buffer.len() && Farewell::parse(line).is_some() {
                break;
            }
            flow = each(line);
            (start, self.scanned) = (end, end);
        }
        let held = self.buffer[self.scanned..].contains(&b'\n');
        self.buffer.drain(..start);
        self.scanned = if held || flow.is_break() { 0 } else { self.buffer.len() };
        flow
    }

    /// How long to wait for more bytes before calling [`Splitter::flush`]; `None` if nothing is held back.
    pub(in crate::commands) fn wait_limit(&self) -> Option<Duration> {
        if self.buffer.is_empty() {
            None
        } else if self.buffer.len() >= MAX_HELD {
            Some(Duration::ZERO)
        } else if self.buffer.ends_with(b"\n") || Farewell::may_begin(&self.buffer) {
            Some(FAREWELL_QUIET)
        } else {
            Some(TAIL_QUIET)
        }
    }

    /// Called when that time has passed: the bytes that were held back are an upcall.
    pub(in crate::commands) fn flush(&mut self) -> Vec<u8> {
        self.scanned = 0;
        let upcall = mem::take(&mut self.buffer);
        self.last = match Farewell::parse(&upcall) {
            Some(farewell) => LastUpcall::PossibleFarewell(farewell),
            None if upcall.ends_with(b"\n") => LastUpcall::Complete,
            None => LastUpcall::Open,
        };
        upcall
    }

    /// The stream has ended: returns the last upcall, empty if there is none, and the farewell if there was one.
    pub(in crate::commands) fn finish(self) -> (Vec<u8>, Option<Farewell>) {
        match (Farewell::parse(&self.buffer), self.last) {
            (Some(farewell), _) => (Vec::new(), Some(farewell)),
            (None, LastUpcall::PossibleFarewell(farewell)) => (self.buffer, Some(farewell)),
            (None, _) => (self.buffer, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The lines passed on, what the splitter holds at the end of the stream, and whether a farewell ended it.
    fn split(pieces: &[&[u8]]) -> (Vec<String>, String, bool) {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece);
            let _ = splitter.lines(|line| {
                lines.push(String::from_utf8_lossy(line).into_owned());
                ControlFlow::Continue(())
            });
        }
        let (rest, farewell) = splitter.finish();
        (lines, String::from_utf8_lossy(&rest).into_owned(), farewell.is_some())
    }

    fn lines(of: &[&str]) -> Vec<String> {
        of.iter().map(|&line| line.into()).collect()
    }

    #[test]
    fn lines_are_passed_on_whole_and_the_rest_at_the_end() {
        assert_eq!(split(&[b"a\nb", b"c\n\nd"]), (lines(&["a\n", "bc\n", "\n"]), "d".into(), false));
    }

    #[test]
    fn only_a_last_line_is_a_farewell() {
        let bye = Farewell::line("shutdown");
        assert_eq!(split(&[b"a\n", bye.as_bytes()]), (lines(&["a\n"]), String::new(), true));
        assert_eq!(split(&[bye.as_bytes(), b"a\n"]), (lines(&[&bye, "a\n"]), String::new(), false));
        let after_haii = format!("\n{bye}");
        assert_eq!(split(&[b"haii", after_haii.as_bytes()]), (lines(&["haii\n"]), String::new(), true));
        assert_eq!(split(&[b"haii", bye.as_bytes()]), (vec![format!("haii{bye}")], String::new(), false));
        assert_eq!(split(&[bye.as_bytes(), bye.as_bytes()]), (lines(&[&bye]), String::new(), true));
    }

    #[test]
    fn a_tail_is_an_upcall_after_a_quiet_time() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.wait_limit(), None);
        splitter.push(b"haii");
        assert_eq!(splitter.wait_limit(), Some(TAIL_QUIET));
        assert_eq!(splitter.flush(), b"haii");
        assert_eq!(splitter.wait_limit(), None);
    }

    #[test]
    fn a_possible_farewell_is_shown_and_still_counts_at_end_of_file() {
        let mut splitter = Splitter::default();
        splitter.push(b"upcalld: shut");
        assert_eq!(splitter.wait_limit(), Some(FAREWELL_QUIET));
        splitter.push(b"down\n");
        assert!(splitter.lines(|_| panic!("held back")).is_continue());
        assert_eq!(splitter.wait_limit(), Some(FAREWELL_QUIET));
        assert_eq!(splitter.flush(), b"upcalld: shutdown\n");
        assert!(splitter.finish().1.is_some());
    }

    #[test]
    fn a_break_keeps_the_following_lines() {
        let mut splitter = Splitter::default();
        splitter.push(b"a\nb\nc\n");
        let mut seen = Vec::new();
        let mut flow = splitter.lines(|line| {
            seen.push(line.to_vec());
            ControlFlow::Break(())
        });
        assert!(flow.is_break());
        assert_eq!(seen, [b"a\n"]);
        flow = splitter.lines(|line| {
            seen.push(line.to_vec());
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        assert_eq!(seen, [b"a\n", b"b\n", b"c\n"]);
    }

    proptest! {
        #[test]
        fn the_sizes_of_reads_do_not_matter(text in "(a|\n|upcalld: |shutdown|x_y){0,12}", cut in 0..64usize) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(split(&[bytes]), split(&[&bytes[..cut], &bytes[cut..]]));
            prop_assert_eq!(split(&[bytes]), split(&bytewise));
        }
    }
}
