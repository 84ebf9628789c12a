//! The progress of a bench, on one line of a terminal that is rewritten; nothing if standard error is not a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// The shortest time between two updates. More updates would be unreadable.
const INTERVAL: Duration = Duration::from_millis(100);

/// The progress line.
#[derive(Debug)]
pub(super) struct ProgressLine {
    terminal: bool,
    shown: Option<Instant>,
}

impl ProgressLine {
    /// An empty line.
    pub(super) fn new() -> ProgressLine {
        ProgressLine { terminal: io::stderr().is_terminal(), shown: None }
    }

    /// Replaces the line by `text`, unless it was updated just before.
    pub(super) fn show(&mut self, now: Instant, text: impl FnOnce() -> String) {
        if self.terminal && self.shown.is_none_or(|shown| now.saturating_duration_since(shown) >= INTERVAL) {
            self.shown = Some(now);
            // The progress is not worth an error.
            let _ = io::stderr().write_all(format!("\r{}\x1b[K", text()).as_bytes());
        }
    }

    /// Clears the line.
    pub(super) fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.clear();
    }
}
