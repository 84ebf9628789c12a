//! Standard output and standard error, written without panics; and text made safe for a terminal.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use upcall_wire::escape::Escaped;

use crate::commands::failure::Failure;
use crate::exit::Status;

/// Writes a line for the user to stderr, with the program's name, in one write. `eprintln!` would panic where stderr is
/// closed.
pub(in crate::commands) fn notice(message: &impl fmt::Display) {
    let line = format!("upcall-client: {message}\n");
    // Without stderr there is nowhere to report this.
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Standard output, unbuffered, so that no line is held back.
#[derive(Debug)]
pub(in crate::commands) struct Output(File);

impl Output {
    /// A descriptor of our own for standard output.
    pub(in crate::commands) fn stdout() -> Result<Output, Failure> {
        let descriptor = io::stdout().as_fd().try_clone_to_owned().map_err(|error| cannot_write(&error))?;
        Ok(Output(File::from(descriptor)))
    }

    /// Writes all bytes. Breaks if the reader of a pipe is gone. That is not a failure: it has read as much as it
    /// wanted.
    pub(in crate::commands) fn print(&self, bytes: &[u8]) -> Result<ControlFlow<()>, Failure> {
        match self.write_all(bytes) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(error) => Err(cannot_write(&error)),
        }
    }

    /// Writes all bytes, and blocks for that even if another process that shares the descriptor made it nonblocking.
    pub(in crate::commands) fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match (&self.0).write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // The result of poll(2) does not matter: the next write shows whether there is room.
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

fn cannot_write(error: &io::Error) -> Failure {
    Failure::new(Status::Io, format!("cannot write to standard output: {error}"))
}

/// JSON that is safe on a terminal: escapes the characters that a terminal would obey, which is more than JSON
/// requires.
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
                // Writing to a String cannot fail.
                let _ = write!(safe, "\\u{unit:04x}");
            }
        }
    }
    safe
}

/// Whether this character must be escaped on a terminal.
fn is_escaped(c: char) -> bool {
    let mut buffer = [0; 4];
    let plain: &str = c.encode_utf8(&mut buffer);
    Escaped(plain.as_bytes()).to_string() != plain
}
