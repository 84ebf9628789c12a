//! Upcalls on standard output: as they came, made safe for a terminal, or as JSON. Every batch is one write.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use crate::commands::text::exchange::Sink;
use upcall_wire::escape::Escaped;

/// What an upcall looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum Style {
    /// Byte for byte.
    Verbatim,
    /// Byte for byte, and a newline where it had none.
    Lines,
    /// On a line of its own, with everything escaped that a terminal would obey.
    Escaped,
    /// A JSON object on a line of its own, without the upcall's newline.
    Json,
}

impl Style {
    /// `otherwise`, except on a terminal.
    pub(in crate::commands) fn unless_terminal(otherwise: Style) -> Style {
        if io::stdout().is_terminal() { Style::Escaped } else { otherwise }
    }

    /// Appends what an upcall looks like.
    pub(in crate::commands) fn render(self, upcall: &[u8], out: &mut Vec<u8>) {
        let line = upcall.strip_suffix(b"\n").unwrap_or(upcall);
        match self {
            Style::Verbatim => return out.extend_from_slice(upcall),
            Style::Lines => out.extend_from_slice(line),
            // A Vec takes every byte it is given.
            Style::Escaped => drop(write!(out, "{}", Escaped(line))),
            Style::Json => out.extend_from_slice(Record::new(line, SystemTime::now()).json().as_bytes()),
        }
        out.push(b'\n');
    }
}

#[derive(Serialize)]
struct Record<'a> {
    received: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

impl<'a> Record<'a> {
    fn new(data: &'a [u8], received: SystemTime) -> Record<'a> {
        let text = std::str::from_utf8(data).ok();
        Record {
            received: humantime::format_rfc3339_millis(received).to_string(),
            data: text,
            data_base64: text.is_none().then(|| STANDARD.encode(data)),
        }
    }

    fn json(&self) -> String {
        // Two strings are always representable.
        terminal_safe(serde_json::to_string(self).unwrap_or_default())
    }
}

/// JSON that may go to a terminal: beyond what the format demands, what a terminal would obey is escaped too.
pub(in crate::commands) fn terminal_safe(json: String) -> String {
    if json.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return json;
    }
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        let harmless = c != '\x7f' && (c.is_ascii() || !is_escaped(c));
        if harmless {
            safe.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // A String takes every character it is given.
                let _ = write!(safe, "\\u{unit:04x}");
            }
        }
    }
    safe
}

/// Whether a terminal must not see this character as it is.
fn is_escaped(c: char) -> bool {
    let mut buffer = [0; 4];
    let plain: &str = c.encode_utf8(&mut buffer);
    Escaped(plain.as_bytes()).to_string() != plain
}

/// Standard output without a buffer that could panic, or keep a line back.
#[derive(Debug)]
pub(in crate::commands) struct Output(File);

impl Output {
    pub(in crate::commands) fn stdout() -> io::Result<Output> {
        Ok(Output(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    /// Writes everything, also where somebody who shares the descriptor made it nonblocking.
    pub(in crate::commands) fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match (&self.0).write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Whatever poll(2) says, the next write knows better.
                    let _ = poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Prints upcalls, as many as are wanted.
#[derive(Debug)]
pub(in crate::commands) struct Printer<'a> {
    output: &'a Output,
    style: Style,
    left: Option<u64>,
    pending: Vec<u8>,
}

impl<'a> Printer<'a> {
    /// Prints at most `count` upcalls.
    pub(in crate::commands) fn new(output: &'a Output, style: Style, count: Option<u64>) -> Printer<'a> {
        Printer { output, style, left: count, pending: Vec::new() }
    }
}

impl Sink for Printer<'_> {
    fn upcall(&mut self, upcall: &[u8]) -> ControlFlow<()> {
        if self.left == Some(0) {
            return ControlFlow::Break(());
        }
        self.style.render(upcall, &mut self.pending);
        self.left = self.left.map(|left| left - 1);
        if self.left == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.output.write_all(&self.pending);
        self.pending.clear();
        result
    }
}

/// Takes upcalls and shows none.
#[derive(Debug)]
pub(in crate::commands) struct Discard;

impl Sink for Discard {
    fn upcall(&mut self, _: &[u8]) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn render(style: Style, upcall: &[u8]) -> String {
        let mut out = Vec::new();
        style.render(upcall, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn styles_differ_in_newlines_and_escapes() {
        for (style, with, without) in [
            (Style::Verbatim, "a\x1b\n", "a\x1b"),
            (Style::Lines, "a\x1b\n", "a\x1b\n"),
            (Style::Escaped, "a\\x1b\n", "a\\x1b\n"),
        ] {
            assert_eq!((render(style, b"a\x1b\n").as_str(), render(style, b"a\x1b").as_str()), (with, without));
        }
        assert_eq!(render(Style::Escaped, b"a\\\r\n\n"), "a\\\\\\r\\n\n");
    }

    #[test]
    fn json_holds_text_or_base64() {
        let received = SystemTime::UNIX_EPOCH + Duration::from_millis(1);
        let json = |data| Record::new(data, received).json();
        assert_eq!(json(b"a\x1b\"b"), r#"{"received":"1970-01-01T00:00:00.001Z","data":"a\u001b\"b"}"#);
        let tricky = "\u{9b}\u{202e}\x7f✓\u{e0001}";
        let shown = json(tricky.as_bytes());
        assert!(shown.ends_with(r#""data":"\u009b\u202e\u007f✓\udb40\udc01"}"#), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap()["data"], tricky);
        assert_eq!(json(b"\xff"), r#"{"received":"1970-01-01T00:00:00.001Z","data_base64":"/w=="}"#);
    }
}
