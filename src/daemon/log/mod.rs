//! Log lines, one per event, to the journal or to standard error. The loop never blocks on their reader: a thread
//! writes the lines from a bounded queue. Lines for which the queue has no room are dropped, counted and reported.
//!
//! `info!(logger, endpoint = id, listener = name; "#{id} connected")`: the fields before the semicolon are for the
//! journal and for JSON. Nothing is evaluated while the level is off. Of the daemon, this module knows only how logging
//! is configured.

mod count;
mod line;
mod queue;
mod writer;

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::config::{self, Level, LogFormat};
pub(in crate::daemon) use count::Count;
use line::{Line, Style};
use queue::Queue;

/// At most this many lines are queued.
const LINES: usize = 4096;

/// The time that the program waits for the last lines to be written before it exits.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Writes log lines.
pub(in crate::daemon) struct Logger {
    level: Level,
    style: Style,
    queue: Queue,
    dropped: u64,
}

impl Logger {
    pub(in crate::daemon) fn new(config: &config::DaemonConfig) -> Logger {
        Logger { level: config.log_level, style: style(config.log_format), queue: Queue::new(LINES), dropped: 0 }
    }

    /// Applies another configuration.
    pub(in crate::daemon) fn reconfigure(&mut self, config: &config::DaemonConfig) {
        self.level = config.log_level;
        self.style = style(config.log_format);
    }

    /// For lines that are written just before the process exits: from now on, lines go to standard error instead of the
    /// journal's socket. The journal looks up the sender of a datagram when it reads the datagram, and would not find
    /// this process any more. It knows the stream on standard error since the stream was opened.
    pub(in crate::daemon) fn before_exit(&mut self) -> &mut Logger {
        if self.style == Style::Journal {
            self.style = Style::Prefixed;
        }
        self
    }

    pub(in crate::daemon) fn enabled(&self, level: Level) -> bool {
        level <= self.level
    }

    /// The number of lines that were dropped and not reported yet.
    pub(in crate::daemon) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Logs a message. Use the macros.
    pub(in crate::daemon) fn write(
        &mut self,
        level: Level,
        message: fmt::Arguments<'_>,
        fields: &[(&'static str, &dyn fmt::Display)],
    ) {
        let line = Line::new(self.style, level, message, fields);
        if self.dropped > 0 {
            let message = format_args!("{} log lines were dropped: they were not read in time", self.dropped);
            if self.queue.push(Line::new(self.style, Level::Warn, message, &[])) {
                self.dropped = 0;
            }
        }
        if !self.queue.push(line) {
            self.dropped += 1;
        }
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        self.queue.end(LAST_LINES);
    }
}

fn style(format: LogFormat) -> Style {
    match (format, is_journal()) {
        (LogFormat::Json, _) => Style::Json,
        (LogFormat::Auto, true) => Style::Journal,
        (LogFormat::Text, true) => Style::Prefixed,
        (LogFormat::Auto | LogFormat::Text, false) if is_terminal() => Style::Terminal,
        (LogFormat::Auto | LogFormat::Text, false) => Style::Plain,
    }
}

/// Whether standard error is a terminal.
pub(in crate::daemon) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether standard error is the stream to the journal that `$JOURNAL_STREAM` names (systemd.exec(5)).
pub(in crate::daemon) fn is_journal() -> bool {
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| {
        let stderr = std::fs::metadata("/proc/self/fd/2");
        stderr.is_ok_and(|metadata| stream == format!("{}:{}", metadata.dev(), metadata.ino()))
    })
}

macro_rules! log_at {
    ($level:expr, $logger:expr, $($key:ident = $value:expr),+; $($message:tt)+) => {
        if $logger.enabled($level) {
            let fields: &[(&'static str, &dyn std::fmt::Display)] = &[$((stringify!($key), &$value)),+];
            $logger.write($level, format_args!($($message)+), fields)
        }
    };
    ($level:expr, $logger:expr, $($message:tt)+) => {
        if $logger.enabled($level) {
            $logger.write($level, format_args!($($message)+), &[])
        }
    };
}
macro_rules! error {
    ($($line:tt)+) => { $crate::daemon::log::log_at!($crate::config::Level::Error, $($line)+) };
}
macro_rules! warning {
    ($($line:tt)+) => { $crate::daemon::log::log_at!($crate::config::Level::Warn, $($line)+) };
}
macro_rules! info {
    ($($line:tt)+) => { $crate::daemon::log::log_at!($crate::config::Level::Info, $($line)+) };
}
macro_rules! debug {
    ($($line:tt)+) => { $crate::daemon::log::log_at!($crate::config::Level::Debug, $($line)+) };
}
pub(in crate::daemon) use {debug, error, info, log_at, warning};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_not_read_are_dropped_and_counted() {
        let mut logger = Logger { level: Level::Info, style: Style::Prefixed, queue: Queue::unwritten(1), dropped: 0 };
        for line in ["one", "two", "three"] {
            info!(logger, "{line}");
        }
        debug!(logger, endpoint = unreachable_number(); "not enabled");
        let next = |logger: &Logger| String::from_utf8(logger.queue.pop().unwrap().render(Style::Prefixed)).unwrap();
        assert_eq!(next(&logger), "<6>one\n");
        info!(logger, "four");
        assert_eq!(next(&logger), "<4>2 log lines were dropped: they were not read in time\n");
        assert_eq!(logger.dropped, 1, "the notice took the place of one line");
    }

    #[test]
    fn lines_before_exit_do_not_go_to_the_journal_by_datagram() {
        for (style, last) in
            [(Style::Journal, Style::Prefixed), (Style::Json, Style::Json), (Style::Plain, Style::Plain)]
        {
            let mut logger = Logger { level: Level::Info, style, queue: Queue::unwritten(1), dropped: 0 };
            error!(logger.before_exit(), "wrong");
            assert_eq!(logger.queue.pop().unwrap().style, last);
        }
    }

    fn unreachable_number() -> u64 {
        panic!("a field of a line that is not enabled is not evaluated")
    }
}
