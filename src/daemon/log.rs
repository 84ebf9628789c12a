//! Log lines, one an event, to standard error. The loop never waits for whoever reads them: a thread writes what a bounded
//! queue holds, and what it cannot hold is dropped, counted and said.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::time::{Duration, SystemTime};

use crate::config::Level;

/// Lines that may wait to be written.
const QUEUE: usize = 4096;

/// How long the end of the program waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// For people who watch: the message, with the level only where it is a problem.
    Terminal,
    /// For the journal, which knows the time: the level as sd-daemon(3) wants it.
    Journal,
    /// Time (RFC 3339, UTC) and level.
    Plain,
}

pub(super) struct Log {
    level: Level,
    style: Style,
    queue: Option<SyncSender<Vec<u8>>>,
    dropped: u64,
    written: Receiver<()>,
}

impl Log {
    pub(super) fn new(level: Level) -> Log {
        let (queue, lines) = sync_channel::<Vec<u8>>(QUEUE);
        let (done, written) = channel();
        let writer = std::thread::Builder::new().name("log".into()).spawn(move || {
            for line in lines {
                // Nowhere is left to complain to.
                let _ = io::stderr().write_all(&line);
            }
            let _ = done.send(());
        });
        let style = match std::env::var("JOURNAL_STREAM") {
            Ok(stream) if is_stderr(&stream) => Style::Journal,
            _ if is_terminal() => Style::Terminal,
            _ => Style::Plain,
        };
        Log { level, style, queue: writer.is_ok().then_some(queue), dropped: 0, written }
    }

    pub(super) fn set_level(&mut self, level: Level) {
        self.level = level;
    }

    pub(super) fn enabled(&self, level: Level) -> bool {
        level <= self.level
    }

    /// Lines that were dropped and not yet said to be.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Logs a message; use the macros.
    pub(super) fn write(&mut self, level: Level, message: fmt::Arguments<'_>) {
        if !self.enabled(level) {
            return;
        }
        let line = self.line(level, message);
        let Some(queue) = &self.queue else {
            let _ = io::stderr().write_all(&line);
            return;
        };
        if self.dropped > 0 {
            let dropped =
                self.line(Level::Warn, format_args!("{} log lines were dropped: nobody reads them", self.dropped));
            if queue.try_send(dropped).is_ok() {
                self.dropped = 0;
            }
        }
        if let Err(TrySendError::Full(_)) = queue.try_send(line) {
            self.dropped += 1;
        }
    }

    fn line(&self, level: Level, message: fmt::Arguments<'_>) -> Vec<u8> {
        let (name, priority) = match level {
            Level::Error => ("error", 3),
            Level::Warn => ("warn", 4),
            Level::Info => ("info", 6),
            Level::Debug => ("debug", 7),
        };
        let message = OneLine(message);
        let line = match (self.style, level) {
            (Style::Terminal, Level::Info) => format!("{message}\n"),
            (Style::Terminal, _) => format!("{name}: {message}\n"),
            (Style::Journal, _) => format!("<{priority}>{message}\n"),
            (Style::Plain, _) => {
                format!("{} {name} {message}\n", humantime::format_rfc3339_millis(SystemTime::now()))
            }
        };
        line.into_bytes()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if self.queue.take().is_some() {
            let _ = self.written.recv_timeout(LAST_LINES);
        }
    }
}

/// A message without control characters. What clients send is escaped before it comes here; this is for what nobody
/// thought of, such as a newline in the path of a socket.
struct OneLine<'a>(fmt::Arguments<'a>);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Filter<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Filter<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for (index, part) in text.split(char::is_control).enumerate() {
                    if index > 0 {
                        self.0.write_str("?")?;
                    }
                    self.0.write_str(part)?;
                }
                Ok(())
            }
        }
        fmt::write(&mut Filter(f), self.0)
    }
}

/// Whether people watch standard error.
pub(super) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether standard error is the stream to the journal that `$JOURNAL_STREAM` names (systemd.exec(5)).
fn is_stderr(stream: &str) -> bool {
    let stderr = std::fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|metadata| stream == format!("{}:{}", metadata.dev(), metadata.ino()))
}

macro_rules! error {
    ($log:expr, $($message:tt)+) => { $log.write($crate::config::Level::Error, format_args!($($message)+)) };
}
macro_rules! warning {
    ($log:expr, $($message:tt)+) => { $log.write($crate::config::Level::Warn, format_args!($($message)+)) };
}
macro_rules! info {
    ($log:expr, $($message:tt)+) => { $log.write($crate::config::Level::Info, format_args!($($message)+)) };
}
macro_rules! debug {
    ($log:expr, $($message:tt)+) => { $log.write($crate::config::Level::Debug, format_args!($($message)+)) };
}
pub(super) use {debug, error, info, warning};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(OneLine(format_args!("a\nb\x1b[1m{}", "c\u{85}")).to_string(), "a?b?[1mc?");
    }

    #[test]
    fn lines_that_nobody_reads_are_dropped_and_counted() {
        let (queue, lines) = sync_channel(1);
        let (_, written) = channel();
        let mut log = Log { level: Level::Info, style: Style::Journal, queue: Some(queue), dropped: 0, written };
        for line in ["one", "two", "three"] {
            info!(log, "{line}");
        }
        debug!(log, "not enabled");
        assert_eq!(lines.recv().unwrap(), b"<6>one\n");
        info!(log, "four");
        assert_eq!(lines.recv().unwrap(), b"<4>2 log lines were dropped: nobody reads them\n");
        assert_eq!(log.dropped, 1, "the one for which the notice took the place");
    }
}
