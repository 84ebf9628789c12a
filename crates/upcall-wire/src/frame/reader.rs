//! Reading the fields of a body.

use super::code::{Code, Violation};
use crate::topic::{is_filter, is_topic};

/// Reads a body from front to end. Unless a method says otherwise, its only error is that the body is too short.
pub(super) struct Reader<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(kind: u8, body: &'a [u8]) -> Reader<'a> {
        Reader { kind, rest: body }
    }

    /// A violation by a frame of this kind.
    pub(super) fn malformed(&self, text: &'static str) -> Violation {
        Violation::new(Code::Malformed, self.kind, text)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let (bytes, rest) =
            self.rest.split_at_checked(count).ok_or_else(|| self.malformed("the frame is too short"))?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(|| self.malformed("the frame is too short"))?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Violation> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u48(&mut self) -> Result<u64, Violation> {
        let [a, b, c, d, e, f] = self.array()?;
        Ok(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Violation> {
        self.array().map(u64::from_be_bytes)
    }

    /// Reads reserved bytes, which must be 0.
    pub(super) fn zeros<const N: usize>(&mut self) -> Result<(), Violation> {
        if self.array::<N>()? == [0; N] { Ok(()) } else { Err(self.malformed("a byte that must be 0 is not")) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Checks that nothing is left.
    pub(super) fn end(&self) -> Result<(), Violation> {
        if self.is_empty() { Ok(()) } else { Err(self.malformed("the frame is too long")) }
    }

    /// Reads a topic, whose length the header gives; 0 for none.
    pub(super) fn topic(&mut self, length: u8) -> Result<&'a str, Violation> {
        if length == 0 {
            return Ok("");
        }
        let bytes = self.bytes(length.into())?;
        match std::str::from_utf8(bytes) {
            Ok(topic) if is_topic(topic) => Ok(topic),
            _ => {
                let text = "a topic is 1 to 128 bytes of UTF-8, has no control characters and does not end in *";
                Err(Violation::new(Code::BadTopic, self.kind, text))
            }
        }
    }

    /// Reads filters to the end of the body, each with its length in front.
    pub(super) fn filters(&mut self) -> Result<Vec<&'a str>, Violation> {
        let mut filters = Vec::new();
        while !self.is_empty() {
            let length = self.u8()?.into();
            match std::str::from_utf8(self.bytes(length)?) {
                Ok(filter) if is_filter(filter) => filters.push(filter),
                _ => return Err(Violation::new(Code::BadTopic, self.kind, "that is not a filter")),
            }
        }
        Ok(filters)
    }
}

/// Interprets bytes as text.
pub(super) fn text(kind: u8, bytes: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(bytes).map_err(|_| Violation::new(Code::Malformed, kind, "the text is not UTF-8"))
}
