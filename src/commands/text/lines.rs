//! Shapes bytes that were read into lines to send: every line ends in a newline, and `bye` may end them. Pure.

use std::ops::ControlFlow;

/// At most this many bytes are held back to find out whether a line is `bye`.
const MAX_HELD: usize = 4096;

/// Whether a line is `bye`, in upper or lower case and with any space around it.
pub(super) fn is_bye(line: &[u8]) -> bool {
    line.trim_ascii().eq_ignore_ascii_case(b"bye")
}

/// The meaning of the line `bye`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByeLine {
    /// It ends the input and is not sent.
    Ends,
    /// It is an input like every other line.
    Sent,
}

/// Shapes a stream of bytes into lines.
#[derive(Debug)]
pub(super) struct Lines {
    bye: ByeLine,
    /// The beginning of a line that may still become `bye`.
    held: Vec<u8>,
    /// Whether a part of the current line has been passed on.
    torn: bool,
}

impl Lines {
    pub(super) fn new(bye: ByeLine) -> Lines {
        Lines { bye, held: Vec::new(), torn: false }
    }

    /// Accepts bytes that were read, and appends those to `out` that can be sent; breaks at a `bye` that ends the
    /// input.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> ControlFlow<()> {
        if self.bye == ByeLine::Sent {
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
            if complete || self.torn || self.held.len() > MAX_HELD {
                out.append(&mut self.held);
                self.torn = !complete;
            }
        }
        ControlFlow::Continue(())
    }

    /// Called at the end of the stream: appends the bytes that were held back, and a newline if the last line has none.
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

    /// The bytes of `pieces` that are sent, and whether a `bye` ended them.
    fn shape(bye: ByeLine, pieces: &[&[u8]]) -> (String, bool) {
        let mut lines = Lines::new(bye);
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
        for bye in [ByeLine::Sent, ByeLine::Ends] {
            assert_eq!(shape(bye, &[b"a\nb"]), ("a\nb\n".into(), false));
            assert_eq!(shape(bye, &[b"a", b"b\n", b""]), ("ab\n".into(), false));
            assert_eq!(shape(bye, &[]), (String::new(), false));
            assert_eq!(shape(bye, &[b"\n\n"]), ("\n\n".into(), false));
        }
    }

    #[test]
    fn bye_ends_the_input_if_asked_to() {
        assert_eq!(shape(ByeLine::Ends, &[b"a\n bY", b"e \r\nb\n"]), ("a\n".into(), true));
        assert_eq!(shape(ByeLine::Ends, &[b"a\nbye"]), ("a\n".into(), false));
        assert_eq!(shape(ByeLine::Ends, &[b"bye bye\n"]), ("bye bye\n".into(), false));
        assert_eq!(shape(ByeLine::Sent, &[b"bye\n"]), ("bye\n".into(), false));
    }

    #[test]
    fn a_long_line_is_not_held_back() {
        let long = vec![b' '; MAX_HELD + 1];
        assert_eq!(shape(ByeLine::Ends, &[&long, b"bye\nx"]).0.len(), MAX_HELD + 1 + "bye\nx\n".len());
        let mut out = Vec::new();
        assert!(Lines::new(ByeLine::Ends).push(&long, &mut out).is_continue());
        assert_eq!(out, long);
    }
}
