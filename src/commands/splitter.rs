//! What the daemon sends on a text stream, cut into upcalls: lines, tails without a newline, and the farewell.
//!
//! Pure: it says how long to wait for more, and is told when that much quiet has passed.

use std::mem;
use std::ops::ControlFlow;
use std::time::Duration;

use upcall_wire::farewell::Farewell;

/// How long nothing must come before what has no newline is taken for an upcall of its own. An upcall ends in a newline
/// only if its message did.
const QUIET: Duration = Duration::from_millis(50);

/// How long end of file is waited for behind a line that reads like a farewell, before it is taken for an upcall.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is held at most while a newline is waited for, in bytes; beyond it, what there is is shown as it is.
const LIMIT: usize = 16 << 20;

/// Cuts a text stream into upcalls.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    buffer: Vec<u8>,
    /// Up to here no newline is in the buffer.
    scanned: usize,
    /// A line that read like a farewell and was passed on as an upcall when no end of file came; nothing came since.
    doubtful: Option<Farewell>,
    /// The upcall that was handed out last had no newline.
    open: bool,
}

impl Splitter {
    /// Takes what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.doubtful = None;
        self.buffer.extend_from_slice(bytes);
    }

    /// Hands out every complete line, its newline included, until `each` breaks. A last line that reads like a
    /// farewell is held back.
    pub(super) fn lines(&mut self, mut each: impl FnMut(&[u8]) -> ControlFlow<()>) -> ControlFlow<()> {
        if std::mem::take(&mut self.open)
            && let Some(line) = self.buffer.strip_prefix(b"\n")
            && Farewell::parse(line).is_some()
        {
            // It ends the line that the last upcall had left open, and is no upcall itself.
            self.buffer.remove(0);
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

    /// How long to wait for more before calling [`Splitter::quiet`]; none when nothing is held back.
    pub(super) fn patience(&self) -> Option<Duration> {
        if self.buffer.is_empty() {
            None
        } else if self.buffer.len() >= LIMIT {
            Some(Duration::ZERO)
        } else if self.buffer.ends_with(b"\n") || Farewell::may_begin(&self.buffer) {
            Some(FAREWELL)
        } else {
            Some(QUIET)
        }
    }

    /// The quiet has passed: what is held back is an upcall.
    pub(super) fn quiet(&mut self) -> Vec<u8> {
        self.scanned = 0;
        let upcall = mem::take(&mut self.buffer);
        self.doubtful = Farewell::parse(&upcall);
        self.open = !upcall.ends_with(b"\n");
        upcall
    }

    /// The stream has ended: the last upcall where there is one, and the farewell where there was one.
    pub(super) fn finish(self) -> (Vec<u8>, Option<Farewell>) {
        match Farewell::parse(&self.buffer) {
            Some(farewell) => (Vec::new(), Some(farewell)),
            None => (self.buffer, self.doubtful),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The lines handed out, and what the splitter holds at the end of the stream.
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
    fn lines_come_whole_and_the_rest_at_the_end() {
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
    fn a_tail_is_an_upcall_after_a_quiet_moment() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.patience(), None);
        splitter.push(b"haii");
        assert_eq!(splitter.patience(), Some(QUIET));
        assert_eq!(splitter.quiet(), b"haii");
        assert_eq!(splitter.patience(), None);
    }

    #[test]
    fn a_doubtful_farewell_is_shown_and_still_believed_at_end_of_file() {
        let mut splitter = Splitter::default();
        splitter.push(b"upcalld: shut");
        assert_eq!(splitter.patience(), Some(FAREWELL));
        splitter.push(b"down\n");
        assert!(splitter.lines(|_| panic!("held back")).is_continue());
        assert_eq!(splitter.patience(), Some(FAREWELL));
        assert_eq!(splitter.quiet(), b"upcalld: shutdown\n");
        assert!(splitter.finish().1.is_some());
    }

    #[test]
    fn whoever_has_enough_gets_no_more() {
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
        fn however_it_is_cut_the_result_is_the_same(text in "(a|\n|upcalld: |shutdown|x_y){0,12}", cut in 0..64usize) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let bytewise: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(split(&[bytes]), split(&[&bytes[..cut], &bytes[cut..]]));
            prop_assert_eq!(split(&[bytes]), split(&bytewise));
        }
    }
}
