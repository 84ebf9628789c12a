//! What there is to send, in order: bytes at hand, and streams that are read as their bytes come.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::lines::Lines;
use crate::commands::failure::Failure;
use crate::exit::Status;

/// Read at a time, and kept waiting for the socket, in bytes.
const CHUNK: usize = 64 << 10;

/// Where inputs come from.
#[derive(Debug, Default)]
pub(super) struct Source {
    parts: VecDeque<Part>,
}

#[derive(Debug)]
enum Part {
    Bytes(Vec<u8>),
    Stream { file: File, name: String, lines: Lines },
}

impl Source {
    /// Adds bytes, to be sent as they are.
    pub(super) fn add_bytes(&mut self, bytes: Vec<u8>) {
        self.parts.push_back(Part::Bytes(bytes));
    }

    /// Adds the lines of standard input; with `bye_ends`, up to one that says `bye`.
    pub(super) fn add_stdin(&mut self, bye_ends: bool) -> Result<(), Failure> {
        // A descriptor of our own: no buffer may keep bytes that poll(2) then does not see.
        let file = io::stdin().as_fd().try_clone_to_owned();
        let file = file.map_err(|error| unreadable("standard input", &error))?;
        self.add_stream(file, "standard input", bye_ends);
        Ok(())
    }

    /// Adds the lines of a file.
    pub(super) fn add_file(&mut self, path: &Path) -> Result<(), Failure> {
        let name = format!("{path:?}");
        let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
        self.add_stream(file.into(), &name, false);
        Ok(())
    }

    /// Adds the lines of whatever can be read and polled.
    pub(super) fn add_stream(&mut self, file: OwnedFd, name: &str, bye_ends: bool) {
        self.parts.push_back(Part::Stream { file: file.into(), name: name.into(), lines: Lines::new(bye_ends) });
    }

    /// Whether nothing is left to send.
    pub(super) fn is_exhausted(&self) -> bool {
        self.parts.is_empty()
    }

    /// Nothing more will be sent.
    pub(super) fn abandon(&mut self) {
        self.parts.clear();
    }

    /// Moves the bytes that are at hand to `out`, up to a chunk; returns the descriptor to wait for where a stream
    /// must be read to get more.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>) -> Option<BorrowedFd<'_>> {
        while out.len() < CHUNK
            && let Some(Part::Bytes(bytes)) = self.parts.front_mut()
        {
            out.append(bytes);
            self.parts.pop_front();
        }
        match self.parts.front() {
            Some(Part::Stream { file, .. }) if out.len() < CHUNK => Some(file.as_fd()),
            _ => None,
        }
    }

    /// Reads once from the stream that [`Source::fill`] named.
    pub(super) fn read(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Some(Part::Stream { file, name, lines }) = self.parts.front_mut() else { return Ok(()) };
        let mut buffer = vec![0; CHUNK];
        match file.read(&mut buffer) {
            Ok(0) => {
                lines.finish(out);
                self.parts.pop_front();
            }
            Ok(n) => {
                if lines.push(&buffer[..n], out).is_break() {
                    self.abandon();
                }
            }
            // Whoever shares the descriptor with us may have made it nonblocking.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(unreadable(name, &error)),
        }
        Ok(())
    }
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::new(Status::Io, format!("cannot read {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn parts_keep_their_order() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut source = Source::default();
        source.add_bytes(b"a\n".to_vec());
        source.add_stream(reader.into(), "a pipe", false);
        source.add_bytes(b"c\n".to_vec());
        writer.write_all(b"b").unwrap();
        drop(writer);

        let mut out = Vec::new();
        while !source.is_exhausted() {
            if source.fill(&mut out).is_some() {
                source.read(&mut out).unwrap();
            }
        }
        assert_eq!(out, b"a\nb\nc\n");
    }

    #[test]
    fn no_more_is_taken_than_fits() {
        let mut source = Source::default();
        for _ in 0..3 {
            source.add_bytes(vec![b'x'; CHUNK]);
        }
        let mut out = Vec::new();
        assert!(source.fill(&mut out).is_none());
        assert_eq!(out.len(), CHUNK);
        assert!(!source.is_exhausted());
    }

    #[test]
    fn a_missing_file_is_named() {
        let failure = Source::default().add_file(Path::new("/nonexistent/x")).unwrap_err();
        assert!(failure.to_string().contains("\"/nonexistent/x\""), "{failure}");
    }
}
