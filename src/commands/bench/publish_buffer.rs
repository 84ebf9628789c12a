//! Messages that are published but that the publisher's link has not accepted yet.

use std::io::ErrorKind;

use super::link::BenchLink;

/// At most this many bytes are buffered that the link has not accepted yet; a single message may be longer.
const MAX_AHEAD: usize = 256 << 10;

/// The bytes on their way to the link.
#[derive(Debug, Default)]
pub(super) struct PublishBuffer {
    bytes: Vec<u8>,
    /// How many of them were sent.
    sent: usize,
    state: LinkState,
}

/// Whether the link accepts bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum LinkState {
    #[default]
    Ready,
    /// Not until there is room.
    Full,
    /// Never again.
    Broken,
}

impl PublishBuffer {
    /// Whether there is room for one more message of `size` bytes. There is none while the link is full or broken.
    pub(super) fn has_room(&self, size: usize) -> bool {
        self.state == LinkState::Ready && (self.bytes.is_empty() || self.bytes.len() + size <= MAX_AHEAD)
    }

    /// Where to append it.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Whether the link has accepted everything, or is broken.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether the link accepts no more until it reports room.
    pub(super) fn is_full(&self) -> bool {
        self.state == LinkState::Full
    }

    /// Sends as much as the link accepts, in messages of `size` bytes. Returns whether it accepted any. If the link is
    /// broken, the rest is dropped, and the next read returns the reason.
    pub(super) fn send(&mut self, link: &mut dyn BenchLink, size: usize) -> bool {
        let before = self.sent;
        if self.state == LinkState::Full {
            self.state = LinkState::Ready;
        }
        while self.sent < self.bytes.len() && self.state == LinkState::Ready {
            match link.send(&self.bytes[self.sent..], size) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.state = LinkState::Full,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.state = LinkState::Broken,
            }
        }
        let accepted = self.sent > before;
        if self.state != LinkState::Full {
            self.bytes.clear();
            self.sent = 0;
        }
        accepted
    }
}
