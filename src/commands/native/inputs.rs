//! What there is to send, one message at a time: arguments as they are, lines of streams as they come.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use memchr::memchr;

use crate::commands::failure::Failure;
use crate::exit::Status;

/// Read at a time, in bytes.
const CHUNK: usize = 64 << 10;

/// A line that is longer is not kept in memory, in bytes; no daemon takes one of this size.
const LONGEST: usize = 256 << 20;

#[derive(Debug)]
enum Part {
    Message(Vec<u8>),
    Stream { file: File, name: String, read: Vec<u8>, taken: usize },
}

/// Messages, in order.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    parts: VecDeque<Part>,
}

impl Inputs {
    /// Adds a message, of any bytes.
    pub(super) fn add(&mut self, message: &[u8]) {
        self.parts.push_back(Part::Message(message.to_vec()));
    }

    /// Adds the lines of standard input.
    pub(super) fn add_stdin(&mut self) -> Result<(), Failure> {
        // A descriptor of our own: no buffer may keep bytes that poll(2) then does not see.
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
        self.parts.push_back(Part::Stream { file, name: name.into(), read: Vec::new(), taken: 0 });
    }

    /// The next message, without its newline, if it is at hand.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        match self.parts.front_mut()? {
            Part::Message(message) => {
                let message = std::mem::take(message);
                self.parts.pop_front();
                Some(message)
            }
            Part::Stream { read, taken, .. } => {
                let length = memchr(b'\n', &read[*taken..])?;
                let line = read[*taken..*taken + length].to_vec();
                *taken += length + 1;
                Some(line)
            }
        }
    }

    /// Whether there is a message at hand.
    pub(super) fn is_ready(&self) -> bool {
        match self.parts.front() {
            None => false,
            Some(Part::Message(_)) => true,
            Some(Part::Stream { read, taken, .. }) => memchr(b'\n', &read[*taken..]).is_some(),
        }
    }

    /// What must be read to get one.
    pub(super) fn wants(&self) -> Option<BorrowedFd<'_>> {
        match self.parts.front() {
            Some(Part::Stream { file, .. }) if !self.is_ready() => Some(file.as_fd()),
            _ => None,
        }
    }

    /// Reads once from what [`Inputs::wants`] named. The last line of a stream needs no newline.
    pub(super) fn read(&mut self) -> Result<(), Failure> {
        if self.is_ready() {
            return Ok(());
        }
        let Some(Part::Stream { file, name, read, taken }) = self.parts.front_mut() else { return Ok(()) };
        read.drain(..std::mem::take(taken));
        if read.len() > LONGEST {
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
                    self.parts.push_front(Part::Message(rest));
                }
            }
            Ok(_) => {}
            // Whoever shares the descriptor with us may have made it nonblocking.
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
