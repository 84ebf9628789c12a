//! What to send over text, in order: bytes in memory, and streams that are read as their bytes arrive.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::lines::{ByeLine, Lines};
use crate::commands::failure::Failure;
use crate::exit::Status;

/// How many bytes are read at a time, and how many may wait for the socket before no more are read.
const CHUNK: usize = 64 << 10;

/// The lines to send.
#[derive(Debug, Default)]
pub(super) struct LineSource {
    parts: VecDeque<SourcePart>,
}

#[derive(Debug)]
enum SourcePart {
    Bytes(Vec<u8>),
    Stream { file: File, name: String, lines: Lines },
}

impl LineSource {
    /// Adds bytes, which are sent as they are.
    pub(super) fn add_bytes(&mut self, bytes: Vec<u8>) {
        self.parts.push_back(SourcePart::Bytes(bytes));
    }

    /// Adds the lines of standard input.
    pub(super) fn add_stdin(&mut self, bye: ByeLine) -> Result<(), Failure> {
        // A descriptor of our own, because `io::stdin()` may buffer bytes that poll(2) then does not report.
        let file = io::stdin().as_fd().try_clone_to_owned();
        let file = file.map_err(|error| unreadable("standard input", &error))?;
        self.add_stream(file, "standard input", bye);
        Ok(())
    }

    /// Adds the lines of a file.
    pub(super) fn add_file(&mut self, path: &Path) -> Result<(), Failure> {
        let name = format!("{path:?}");
        let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
        self.add_stream(file.into(), &name, ByeLine::Sent);
        Ok(())
    }

    /// Adds the lines of a descriptor that can be read and polled.
    pub(super) fn add_stream(&mut self, file: OwnedFd, name: &str, bye: ByeLine) {
        self.parts.push_back(SourcePart::Stream { file: file.into(), name: name.into(), lines: Lines::new(bye) });
    }

    /// Whether nothing is left to send.
    pub(super) fn is_exhausted(&self) -> bool {
        self.parts.is_empty()
    }

    /// Drops everything that is left.
    pub(super) fn abandon(&mut self) {
        self.parts.clear();
    }

    /// Moves bytes from memory to `out`, about a chunk of them. Returns the descriptor to wait for if a stream must be
    /// read to get more.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>) -> Option<BorrowedFd<'_>> {
        while out.len() < CHUNK
            && let Some(SourcePart::Bytes(bytes)) = self.parts.front_mut()
        {
            out.append(bytes);
            self.parts.pop_front();
        }
        match self.parts.front() {
            Some(SourcePart::Stream { file, .. }) if out.len() < CHUNK => Some(file.as_fd()),
            _ => None,
        }
    }

    /// Reads once from the stream whose descriptor [`LineSource::fill`] returned.
    pub(super) fn read(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Some(SourcePart::Stream { file, name, lines }) = self.parts.front_mut() else { return Ok(()) };
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
            // Another process that shares the descriptor may have made it nonblocking.
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
        let mut source = LineSource::default();
        source.add_bytes(b"a\n".to_vec());
        source.add_stream(reader.into(), "a pipe", ByeLine::Sent);
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
    fn filling_stops_after_a_chunk() {
        let mut source = LineSource::default();
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
        let failure = LineSource::default().add_file(Path::new("/nonexistent/x")).unwrap_err();
        assert!(failure.to_string().contains("\"/nonexistent/x\""), "{failure}");
    }
}
