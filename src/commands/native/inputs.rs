//! The messages to send, one at a time: arguments as they are, and lines of streams as they arrive.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use memchr::memchr;

use crate::commands::failure::Failure;
use crate::exit::Status;

/// How many bytes are read at a time.
const CHUNK: usize = 64 << 10;

/// At most about this many bytes of a line are kept in memory. No daemon accepts an input of this size.
const MAX_LINE: usize = 256 << 20;

#[derive(Debug)]
enum InputPart {
    Message(Vec<u8>),
    /// `read` holds the bytes that were read, of which `consumed` were returned as messages.
    Stream {
        file: File,
        name: String,
        read: Vec<u8>,
        consumed: usize,
    },
}

/// Messages, in order.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    parts: VecDeque<InputPart>,
}

impl Inputs {
    /// Adds a message, which may contain any bytes.
    pub(super) fn add(&mut self, message: &[u8]) {
        self.parts.push_back(InputPart::Message(message.to_vec()));
    }

    /// Adds the lines of standard input.
    pub(super) fn add_stdin(&mut self) -> Result<(), Failure> {
        // A descriptor of our own, because `io::stdin()` may buffer bytes that poll(2) then does not report.
        let file = io::stdin().as_fd().try_clone_to_owned();
        let file = file.map_err(|error| unreadable("standard input", &error))?;
        self.add_stream(file.into(), "standard input");
        Ok(())
    }

    /// Adds the lines of a file.
    pub(super) fn add_file(&mut self, path: &Path) -> Result<(), Failure> {
        let name = format!("{path:?}");
        let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
        self.add_stream(file, &name);
        Ok(())
    }

    fn add_stream(&mut self, file: File, name: &str) {
        self.parts.push_back(InputPart::Stream { file, name: name.into(), read: Vec::new(), consumed: 0 });
    }

    /// The next message, without its newline, if it is complete in memory.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        match self.parts.front_mut()? {
            InputPart::Message(message) => {
                let message = std::mem::take(message);
                self.parts.pop_front();
                Some(message)
            }
            InputPart::Stream { read, consumed, .. } => {
                let length = memchr(b'\n', &read[*consumed..])?;
                let line = read[*consumed..*consumed + length].to_vec();
                *consumed += length + 1;
                Some(line)
            }
        }
    }

    /// Whether the next message is complete in memory.
    pub(super) fn is_ready(&self) -> bool {
        match self.parts.front() {
            None => false,
            Some(InputPart::Message(_)) => true,
            Some(InputPart::Stream { read, consumed, .. }) => memchr(b'\n', &read[*consumed..]).is_some(),
        }
    }

    /// The descriptor to read for the next message, if it is not complete in memory.
    pub(super) fn wants(&self) -> Option<BorrowedFd<'_>> {
        match self.parts.front() {
            Some(InputPart::Stream { file, .. }) if !self.is_ready() => Some(file.as_fd()),
            _ => None,
        }
    }

    /// Reads once from the descriptor that [`Inputs::wants`] returned. The last line of a stream needs no newline.
    pub(super) fn read(&mut self) -> Result<(), Failure> {
        if self.is_ready() {
            return Ok(());
        }
        let Some(InputPart::Stream { file, name, read, consumed }) = self.parts.front_mut() else { return Ok(()) };
        read.drain(..std::mem::take(consumed));
        if read.len() > MAX_LINE {
            return Err(Failure::new(Status::BadData, format!("a line of {name} is too long to be sent")));
        }
        let start = read.len();
        read.resize(start + CHUNK, 0);
        let result = file.read(&mut read[start..]);
        read.truncate(start + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => {
                let rest = std::mem::take(read);
                self.parts.pop_front();
                if !rest.is_empty() {
                    self.parts.push_front(InputPart::Message(rest));
                }
            }
            Ok(_) => {}
            // Another process that shares the descriptor may have made it nonblocking.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(unreadable(name, &error)),
        }
        Ok(())
    }

    /// Whether nothing is left.
    pub(super) fn is_exhausted(&self) -> bool {
        self.parts.is_empty()
    }
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::new(Status::Io, format!("cannot read {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    #[test]
    fn messages_and_lines_keep_their_order() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"b\n\nc").unwrap();
        drop(writer);
        let mut inputs = Inputs::default();
        inputs.add(b"a\n");
        inputs.add_stream(OwnedFd::from(reader).into(), "a pipe");
        inputs.add(b"");
        let mut messages = Vec::new();
        while !inputs.is_exhausted() {
            match inputs.next() {
                Some(message) => messages.push(message),
                None => inputs.read().unwrap(),
            }
        }
        assert_eq!(messages, [&b"a\n"[..], b"b", b"", b"c", b""]);
    }
}
