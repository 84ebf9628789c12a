//! Escapes untrusted bytes, so that they are safe to print on a terminal or in a log line.

use std::fmt;

/// Displays bytes, and escapes everything that could move a cursor, end a line or reorder text: C0 and C1 controls,
/// DEL, bidirectional controls and line separators (UAX #9), and bytes that are not UTF-8. A backslash is doubled, so
/// that no escape can be forged.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    c if c.is_ascii_control() => write!(f, "\\x{:02x}", c as u32)?,
                    c if c.is_control() || is_format_control(c) => write!(f, "\\u{{{:x}}}", c as u32)?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Whether a character is invisible and changes how others are shown: bidirectional marks, embeddings, overrides and
/// isolates, zero width characters, line and paragraph separators, the byte order mark, interlinear annotations, tags.
fn is_format_control(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escape(bytes: &[u8]) -> String {
        Escaped(bytes).to_string()
    }

    #[test]
    fn plain_text_is_unchanged() {
        assert_eq!(escape("haii, apa kabar? 你好 ✓".as_bytes()), "haii, apa kabar? 你好 ✓");
    }

    #[test]
    fn harmful_characters_are_escaped() {
        assert_eq!(escape(b"a\x1b[2Jb\r\n\t\x00\x7f\\n"), "a\\x1b[2Jb\\r\\n\\t\\x00\\x7f\\\\n");
        assert_eq!(escape("\u{9b}31m\u{202e}x\u{2028}".as_bytes()), "\\u{9b}31m\\u{202e}x\\u{2028}");
        assert_eq!(escape(b"\xff\xc3("), "\\xff\\xc3(");
    }

    proptest! {
        #[test]
        fn the_output_is_printable_and_unambiguous(a: Vec<u8>, b: Vec<u8>) {
            let shown = escape(&a);
            prop_assert!(!shown.chars().any(|c| c.is_control() || is_format_control(c)));
            prop_assert_eq!(a == b, shown == escape(&b));
        }
    }
}
