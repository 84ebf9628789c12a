//! The forms in which `listen` and the interactive client print text upcalls: unchanged, safe for a terminal, or JSON.

use std::io::{self, IsTerminal, Write};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use upcall_wire::escape::Escaped;

use crate::commands::terminal::output::terminal_safe;

/// How a text upcall is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextStyle {
    /// Byte for byte.
    Verbatim,
    /// Byte for byte, with a newline added where there was none.
    Lines,
    /// On a separate line, with everything escaped that a terminal would interpret.
    Escaped,
    /// A JSON object on a separate line, without the upcall's newline.
    Json,
}

impl TextStyle {
    /// [`TextStyle::Escaped`] if standard output is a terminal, otherwise `otherwise`.
    pub(super) fn unless_terminal(otherwise: TextStyle) -> TextStyle {
        if io::stdout().is_terminal() { TextStyle::Escaped } else { otherwise }
    }

    /// Appends the upcall in this style.
    pub(super) fn render(self, upcall: &[u8], out: &mut Vec<u8>) {
        let line = upcall.strip_suffix(b"\n").unwrap_or(upcall);
        match self {
            TextStyle::Verbatim => return out.extend_from_slice(upcall),
            TextStyle::Lines => out.extend_from_slice(line),
            // Writing to a Vec cannot fail.
            TextStyle::Escaped => drop(write!(out, "{}", Escaped(line))),
            TextStyle::Json => out.extend_from_slice(TextRecord::new(line, SystemTime::now()).json().as_bytes()),
        }
        out.push(b'\n');
    }
}

#[derive(Serialize)]
struct TextRecord<'a> {
    received: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

impl<'a> TextRecord<'a> {
    fn new(data: &'a [u8], received: SystemTime) -> TextRecord<'a> {
        let text = std::str::from_utf8(data).ok();
        TextRecord {
            received: humantime::format_rfc3339_millis(received).to_string(),
            data: text,
            data_base64: text.is_none().then(|| STANDARD.encode(data)),
        }
    }

    fn json(&self) -> String {
        // Strings can always be serialized.
        terminal_safe(serde_json::to_string(self).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn render(style: TextStyle, upcall: &[u8]) -> String {
        let mut out = Vec::new();
        style.render(upcall, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn styles_differ_in_newlines_and_escapes() {
        for (style, with, without) in [
            (TextStyle::Verbatim, "a\x1b\n", "a\x1b"),
            (TextStyle::Lines, "a\x1b\n", "a\x1b\n"),
            (TextStyle::Escaped, "a\\x1b\n", "a\\x1b\n"),
        ] {
            assert_eq!((render(style, b"a\x1b\n").as_str(), render(style, b"a\x1b").as_str()), (with, without));
        }
        assert_eq!(render(TextStyle::Escaped, b"a\\\r\n\n"), "a\\\\\\r\\n\n");
    }

    #[test]
    fn json_holds_text_or_base64() {
        let received = SystemTime::UNIX_EPOCH + Duration::from_millis(1);
        let json = |data| TextRecord::new(data, received).json();
        assert_eq!(json(b"a\x1b\"b"), r#"{"received":"1970-01-01T00:00:00.001Z","data":"a\u001b\"b"}"#);
        let tricky = "\u{9b}\u{202e}\x7f✓\u{e0001}";
        let shown = json(tricky.as_bytes());
        assert!(shown.ends_with(r#""data":"\u009b\u202e\u007f✓\udb40\udc01"}"#), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap()["data"], tricky);
        assert_eq!(json(b"\xff"), r#"{"received":"1970-01-01T00:00:00.001Z","data_base64":"/w=="}"#);
    }
}
