//! What is going on, on one line of a terminal that rewrites itself; nothing where standard error is no terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// More often than this nobody reads it.
const INTERVAL: Duration = Duration::from_millis(100);

/// The line.
#[derive(Debug)]
pub(super) struct Progress {
    terminal: bool,
    shown: Option<Instant>,
}

impl Progress {
    /// An empty line.
    pub(super) fn new() -> Progress {
        Progress { terminal: io::stderr().is_terminal(), shown: None }
    }

    /// Shows this instead of what was shown before, unless that has just been.
    pub(super) fn show(&mut self, now: Instant, text: impl FnOnce() -> String) {
        if self.terminal && self.shown.is_none_or(|shown| now.saturating_duration_since(shown) >= INTERVAL) {
            self.shown = Some(now);
            // Whoever does not see it has lost nothing.
            let _ = io::stderr().write_all(format!("\r{}\x1b[K", text()).as_bytes());
        }
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
