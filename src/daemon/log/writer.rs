//! Writes a line where it belongs: to the journal's socket, or to standard error.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::line::{Line, Style};

/// The socket where the journal receives lines with fields (systemd.io/JOURNAL_NATIVE_PROTOCOL).
pub(super) const JOURNAL: &str = "/run/systemd/journal/socket";

/// Writes lines. Blocks until they are written.
pub(super) struct Writer {
    path: PathBuf,
    journal: Option<UnixDatagram>,
}

impl Writer {
    pub(super) fn new(path: PathBuf) -> Writer {
        Writer { path, journal: None }
    }

    pub(super) fn write(&mut self, line: &Line) {
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
pub(super) fn write_all(out: &mut (impl Write + AsFd), mut rest: &[u8]) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Level;

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
