//! The header of a frame, and the limit of the frame's length.

use super::code::{Code, Violation};
use super::kinds::{flag, kind};
use super::limits::{HEADER, MAX_HELLO, SEND_OVERHEAD, UPCALL_OVERHEAD};
use crate::topic::MAX_TOPIC;

/// The fixed part of a frame, [`HEADER`] bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// The length of the topic, in bytes.
    pub(super) topic: u8,
    /// The length of the body, in bytes.
    pub(super) length: u32,
}

impl Header {
    /// Parses a header. Fails immediately on bytes that cannot begin a frame, whatever follows.
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Result<Header, Violation> {
        let [zero, kind, flags, topic, l0, l1, l2, l3] = *bytes;
        let header = Header { kind, flags, topic, length: u32::from_be_bytes([l0, l1, l2, l3]) };
        if zero != 0 {
            return Err(Violation::new(Code::Malformed, 0, "a frame begins with NUL"));
        }
        let (known, has_topic) = match kind {
            kind::SEND => (flag::RECEIPT, true),
            kind::UPCALL => (0, true),
            kind::HELLO | kind::SUBSCRIBE | kind::UNSUBSCRIBE | kind::ACK => (0, false),
            kind::PING..=kind::BYE | kind::WELCOME..=kind::RETRY | kind::RECEIPT..=kind::ERROR => (0, false),
            kind::SKIPPABLE.. => return Ok(header),
            _ => return Err(Violation::new(Code::UnknownKind, kind, "there is no such kind of frame")),
        };
        if flags & flag::CRITICAL & !known != 0 {
            return Err(Violation::new(Code::UnknownFlag, kind, "there is no such flag"));
        }
        if topic != 0 && !has_topic {
            return Err(Violation::new(Code::Malformed, kind, "this kind of frame has no topic"));
        }
        Ok(header)
    }

    /// Like [`Header::parse`], but also refuses a frame that is longer than its kind allows, before any of its body is
    /// stored. `max` is the limit of a payload, in bytes.
    pub(super) fn parse_limited(bytes: &[u8; HEADER], max: usize) -> Result<Header, Violation> {
        let header = Header::parse(bytes)?;
        let limit = match header.kind {
            kind::SEND => SEND_OVERHEAD - HEADER + MAX_TOPIC + max,
            kind::UPCALL => UPCALL_OVERHEAD - HEADER + MAX_TOPIC + max,
            _ => MAX_HELLO,
        };
        if header.length as usize > limit {
            return Err(Violation::new(Code::TooLarge, header.kind, "the frame is larger than allowed"));
        }
        Ok(header)
    }
}
