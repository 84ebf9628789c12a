//! (being written)

/// How a text stream is cut into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// Chunks until the first newline, then lines.
    #[default]
    Auto,
    /// A message ends at a newline or at end of file.
    Line,
    /// A message ends at a newline, or when a read has drained the socket.
    Chunk,
}
