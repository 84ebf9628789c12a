//! Log lines, one per event, to the journal or to standard error. The loop never blocks on their reader: a thread
//! writes the lines from a bounded queue. Lines for which the queue has no room are dropped, counted and reported.
//!
//! `info!(logger, endpoint = id, listener = name; "#{id} connected")`: the fields before the semicolon are for the
//! journal and for JSON. Nothing is evaluated while the level is off. Of the daemon, this module knows only how logging
//! is configured.

mod count;
mod line;
mod queue;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::config::{self, Level, LogFormat};
pub(in crate::daemon) use count::Count;
use line::{Line, Style};
use queue::Queue;

/// At most this many lines are queued.
const LINES: usize = 4096;

/// The time that the program waits for the last lines to be written before it exits.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The socket where the journal receives lines with fields (systemd.io/JOURNAL_NATIVE_PROTOCOL).
const JOURNAL: &str = "/run/systemd/journal/socket";

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

/// Writes lines. Blocks until they are written.
struct Writer {
    path: PathBuf,
    journal: Option<UnixDatagram>,
}

impl Writer {
    fn new(path: PathBuf) -> Writer {
        Writer { path, journal: None }
    }

    fn write(&mut self, line: &Line) {
        let style = match line.style {
            Style::Journal if self.send_to_journal(&line.render(Style::Journal)).is_ok() => return,
            Style::Journal => Style::Prefixed,
            style => style,
        };
        // There is no other place to report an error of standard error.
        let _ = write_all(&mut io::stderr(), &line.render(style));
    }

    /// Reconnects if sending fails, because a restarted journal has another socket.
    fn send_to_journal(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(journal) = &self.journal
            && journal.send(line).is_ok()
        {
            return Ok(());
        }
        let journal = connect(&self.path)?;
        journal.send(line)?;
        self.journal = Some(journal);
        Ok(())
    }
}

/// Writes all bytes. Waits for room, because another process that shares standard error may have made it non-blocking.
fn write_all(out: &mut (impl Write + AsFd), mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // The result of the wait does not matter: the next write shows whether there is room.
                let _ = poll(&mut [PollFd::new(out.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
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

    #[test]
    fn nothing_is_lost_where_standard_error_does_not_block() {
        let (mut writer, mut reader) = std::os::unix::net::UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        let lines = vec![b'x'; 4 << 20];
        let expected = lines.len();
        let thread = std::thread::spawn(move || write_all(&mut writer, &lines));
        let mut read = Vec::new();
        io::Read::read_to_end(&mut reader, &mut read).unwrap();
        assert!(thread.join().unwrap().is_ok());
        assert_eq!(read.len(), expected);
    }

    #[test]
    fn the_journal_gets_the_fields_and_may_be_restarted() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("journal");
        let mut writer = Writer::new(path.clone());
        let line = Line::new(Style::Journal, Level::Info, format_args!("hello"), &[("sequence", &4)]);
        for _ in 0..2 {
            let journal = UnixDatagram::bind(&path).unwrap();
            writer.write(&line);
            let mut buffer = [0; 200];
            let count = journal.recv(&mut buffer).unwrap();
            let text = std::str::from_utf8(&buffer[..count]).unwrap();
            assert_eq!(text, "PRIORITY=6\nSYSLOG_IDENTIFIER=upcalld\nMESSAGE=hello\nUPCALLD_SEQUENCE=4\n");
            std::fs::remove_file(&path).unwrap();
        }
        assert!(writer.send_to_journal(b"MESSAGE=lost\n").is_err(), "it goes to standard error then");
    }
}
