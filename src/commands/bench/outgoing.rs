//! Messages that are written and that the publisher's link has not taken yet.

use std::io::ErrorKind;

use super::link::Link;

/// Written ahead of what the link has taken, in bytes; a single message may be longer.
const AHEAD: usize = 256 << 10;

/// What is on its way out.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    /// This much of it is gone.
    taken: usize,
    full: bool,
    broken: bool,
}

impl Outgoing {
    /// Whether there is room for one more message of `size` bytes; there is none behind a link that is full or broken.
    pub(super) fn has_room(&self, size: usize) -> bool {
        !self.full && !self.broken && (self.bytes.is_empty() || self.bytes.len() + size <= AHEAD)
    }

    /// Where to append it.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Whether the link has taken everything, or will never take anything again.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether the link takes no more for now: an event says when it does.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Sends what the link takes, of messages of `size` bytes; says whether it took any. Where the link is broken, what
    /// is left is dropped, and reading says why.
    pub(super) fn send(&mut self, link: &mut dyn Link, size: usize) -> bool {
        let before = self.taken;
        self.full = false;
        while self.taken < self.bytes.len() && !self.full && !self.broken {
            match link.send(&self.bytes[self.taken..], size) {
                Ok(count) => self.taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.full = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.broken = true,
            }
        }
        let moved = self.taken > before;
        if !self.full {
            self.bytes.clear();
            self.taken = 0;
        }
        moved
    }
}
