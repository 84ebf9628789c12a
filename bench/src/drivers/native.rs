//! upcalld's native protocol over streams, written from upcall-protocol(7).

use std::fs::File;
use std::io::{self, Read, Write};

use super::{ClientRole, Decoded, ProtocolDriver};
use crate::message::TestMessage;

/// Kinds of frames.
pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 0x01;
    pub(crate) const SEND: u8 = 0x02;
    pub(crate) const ACK: u8 = 0x05;
    pub(crate) const DATAGRAM: u8 = 0x20;
    pub(crate) const BYE: u8 = 0x42;
    pub(crate) const WELCOME: u8 = 0x81;
    pub(crate) const UPCALL: u8 = 0x83;
    pub(crate) const RECEIPT: u8 = 0x84;
    pub(crate) const GAP: u8 = 0x85;
    pub(crate) const ERROR: u8 = 0x87;
}

/// Bytes of a frame's header.
pub(crate) const HEADER: usize = 8;

/// Bytes of an UPCALL's body before topic and payload.
pub(crate) const UPCALL: usize = 24;

/// The flag of a SEND that requests a RECEIPT.
pub(crate) const WANT_RECEIPT: u8 = 0x01;

/// The big-endian number at this offset.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Appends a frame without a topic.
pub(crate) fn frame(kind: u8, flags: u8, body: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = body.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&[0, kind, flags, 0]);
    out.extend_from_slice(&(length as u32).to_be_bytes());
    for part in body {
        out.extend_from_slice(part);
    }
}

/// A HELLO of version 1 with the default role, padded as UDP requires.
pub(crate) fn hello(nonce: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let padding = [7, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    frame(kind::HELLO, 0, &[&[1, 1, 0, 0], &nonce.to_be_bytes(), &padding], &mut out);
    out
}

/// A received frame.
pub(crate) struct RawFrame<'a> {
    /// Its kind.
    pub(crate) kind: u8,
    /// Bytes of its topic.
    pub(crate) topic: usize,
    /// The body.
    pub(crate) body: &'a [u8],
    /// Bytes of the whole frame.
    pub(crate) used: usize,
}

impl<'a> RawFrame<'a> {
    /// The frame at the beginning; `None` if it is not complete.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<RawFrame<'a>> {
        let header = bytes.get(..HEADER)?;
        let length = u32::from_be_bytes(header[4..8].try_into().ok()?) as usize;
        let body = bytes.get(HEADER..HEADER + length)?;
        Some(RawFrame { kind: header[1], topic: header[3] as usize, body, used: HEADER + length })
    }

    /// The payload of an UPCALL.
    pub(crate) fn payload(&self) -> &'a [u8] {
        self.body.get(UPCALL + self.topic..).unwrap_or_default()
    }
}

/// Native clients. The publisher requests no receipts.
#[derive(Default)]
pub(crate) struct NativeDriver {
    /// The id of the last SEND.
    last: u64,
}

impl ProtocolDriver for NativeDriver {
    fn echoes(&self) -> bool {
        true
    }

    fn register(&self, connection: &mut File, _: ClientRole, index: usize) -> io::Result<()> {
        connection.write_all(&hello(index as u64 + 1))?;
        let mut welcome = [0; HEADER + 88];
        connection.read_exact(&mut welcome)?;
        match welcome[1] {
            kind::WELCOME => Ok(()),
            _ => Err(io::Error::other(format!("expected WELCOME, received \"{}\"", welcome.escape_ascii()))),
        }
    }

    fn encode(&mut self, message: &TestMessage, out: &mut Vec<u8>) {
        self.last += 1;
        frame(kind::SEND, 0, &[&self.last.to_be_bytes(), message], out);
    }

    fn decode<'a>(&self, bytes: &'a [u8]) -> Decoded<'a> {
        let Some(frame) = RawFrame::read(bytes) else { return Decoded::Partial };
        match frame.kind {
            kind::UPCALL => Decoded::Message { payload: frame.payload(), used: frame.used },
            kind::GAP | kind::ERROR | kind::BYE => Decoded::unexpected(bytes),
            // Version 1 does not require an answer to PING.
            _ => Decoded::Other { used: frame.used, reply: b"" },
        }
    }
}
