//! Bytes that were read somewhere, as lines to send: every line ends in a newline, and `bye` can end it all. Pure.

use std::ops::ControlFlow;

/// What is held back at most to see whether a line is `bye`, in bytes.
const LIMIT: usize = 4096;

/// Whether a line says goodbye, in any case and with any space around it.
pub(super) fn is_bye(line: &[u8]) -> bool {
    line.trim_ascii().eq_ignore_ascii_case(b"bye")
}

/// Shapes a stream of bytes into lines.
#[derive(Debug)]
pub(super) struct Lines {
    bye_ends: bool,
    /// The beginning of a line, where it may still become `bye`.
    held: Vec<u8>,
    /// A part of the current line has been passed on.
    torn: bool,
}

impl Lines {
    /// Lines of which one that says `bye` is the end, if `bye_ends`, and is not itself passed on.
    pub(super) fn new(bye_ends: bool) -> Lines {
        Lines { bye_ends, held: Vec::new(), torn: false }
    }

    /// Takes what was read, and appends to `out` what there is to send; breaks at `bye`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> ControlFlow<()> {
        if !self.bye_ends {
            self.torn = bytes.last().map_or(self.torn, |&last| last != b'\n');
            out.extend_from_slice(bytes);
            return ControlFlow::Continue(());
        }
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.held.extend_from_slice(piece);
            let complete = piece.ends_with(b"\n");
            if complete && !self.torn && is_bye(&self.held) {
                return ControlFlow::Break(());
            }
            if complete || self.torn || self.held.len() > LIMIT {
                out.append(&mut self.held);
                self.torn = !complete;
            }
        }
        ControlFlow::Continue(())
    }

    /// The stream has ended: appends what was held back, and the newline that the last line lacks.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if is_bye(&self.held) && !self.torn {
            return;
        }
        if self.torn || !self.held.is_empty() {
            out.append(&mut self.held);
            out.push(b'\n');
            self.torn = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent of `pieces`, and whether `bye` was among them.
    fn shape(bye_ends: bool, pieces: &[&[u8]]) -> (String, bool) {
        let mut lines = Lines::new(bye_ends);
        let mut out = Vec::new();
        for piece in pieces {
            if lines.push(piece, &mut out).is_break() {
                return (String::from_utf8(out).unwrap(), true);
            }
        }
        lines.finish(&mut out);
        (String::from_utf8(out).unwrap(), false)
    }

    #[test]
    fn the_last_line_gets_its_newline() {
        for bye_ends in [false, true] {
            assert_eq!(shape(bye_ends, &[b"a\nb"]), ("a\nb\n".into(), false));
            assert_eq!(shape(bye_ends, &[b"a", b"b\n", b""]), ("ab\n".into(), false));
            assert_eq!(shape(bye_ends, &[]), (String::new(), false));
            assert_eq!(shape(bye_ends, &[b"\n\n"]), ("\n\n".into(), false));
        }
    }

    #[test]
    fn bye_ends_where_it_may() {
        assert_eq!(shape(true, &[b"a\n bY", b"e \r\nb\n"]), ("a\n".into(), true));
        assert_eq!(shape(true, &[b"a\nbye"]), ("a\n".into(), false));
        assert_eq!(shape(true, &[b"bye bye\n"]), ("bye bye\n".into(), false));
        assert_eq!(shape(false, &[b"bye\n"]), ("bye\n".into(), false));
    }

    #[test]
    fn a_long_line_is_not_held_back() {
        let long = vec![b' '; LIMIT + 1];
        assert_eq!(shape(true, &[&long, b"bye\nx"]).0.len(), LIMIT + 1 + "bye\nx\n".len());
        let mut out = Vec::new();
        assert!(Lines::new(true).push(&long, &mut out).is_continue());
        assert_eq!(out, long);
    }
}
