//! Bytes → frames.

use super::code::{Code, GapReason, Violation};
use super::hello::{Hello, MAX_HELLO};
use super::{Ack, ErrorFrame, Filters, Frame, Gap, HEADER, MAX_REASON, Receipt, Send, Upcall, Welcome, flag, kind};
use crate::topic::{is_filter, is_topic};

/// Reads a body from its front; every error is that the body is too short.
pub(super) struct Reader<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(kind: u8, body: &'a [u8]) -> Reader<'a> {
        Reader { kind, rest: body }
    }

    fn wrong(&self, text: &'static str) -> Violation {
        Violation::new(Code::Malformed, self.kind, text)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.wrong("the frame is too short"))?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(|| self.wrong("the frame is too short"))?;
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

    fn u48(&mut self) -> Result<u64, Violation> {
        let [a, b, c, d, e, f] = self.array()?;
        Ok(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Violation> {
        self.array().map(u64::from_be_bytes)
    }

    /// Bytes that are kept for later: they are 0.
    pub(super) fn zeros<const N: usize>(&mut self) -> Result<(), Violation> {
        if self.array::<N>()? == [0; N] { Ok(()) } else { Err(self.wrong("a byte that has to be 0 is not")) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn end(&self) -> Result<(), Violation> {
        if self.is_empty() { Ok(()) } else { Err(self.wrong("the frame is too long")) }
    }

    fn topic(&mut self, length: u8) -> Result<&'a str, Violation> {
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

    fn filters(&mut self) -> Result<Vec<&'a str>, Violation> {
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

pub(super) fn text(kind: u8, bytes: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(bytes).map_err(|_| Violation::new(Code::Malformed, kind, "the text is not UTF-8"))
}

/// What an ERROR about a frame names it by: its message id, request id or nonce; 0 if it has none, or it is cut off.
fn reference(kind: u8, body: &[u8]) -> u64 {
    let long = |body: &[u8]| body.first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
    match kind {
        kind::HELLO => body.get(4..).map_or(0, long),
        kind::SEND | kind::PING | kind::PONG | kind::RETRY | kind::RECEIPT => long(body),
        kind::SUBSCRIBE | kind::UNSUBSCRIBE | kind::SUBSCRIBED => {
            body.first_chunk().map_or(0, |id| u32::from_be_bytes(*id).into())
        }
        _ => 0,
    }
}

/// The fixed part of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: u8,
    flags: u8,
    topic: u8,
    /// Of the body, in bytes.
    pub(super) length: u32,
}

impl Header {
    /// Reads a header; tells at once what cannot be the beginning of a frame.
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
}

impl<'a> Frame<'a> {
    /// Reads one whole frame from the front of `bytes`, which hold nothing else than frames.
    pub fn take(bytes: &mut &'a [u8]) -> Result<Frame<'a>, Violation> {
        let cut = || Violation::new(Code::Malformed, 0, "the frame is cut off");
        let (header, rest) = bytes.split_first_chunk().ok_or_else(cut)?;
        let header = Header::parse(header)?;
        if header.length as usize > MAX_HELLO && !matches!(header.kind, kind::SEND | kind::UPCALL) {
            return Err(Violation::new(Code::TooLarge, header.kind, "the frame is larger than allowed"));
        }
        let (body, rest) = rest.split_at_checked(header.length as usize).ok_or_else(cut)?;
        *bytes = rest;
        Frame::parse(header, body)
    }

    /// Reads one frame; what is wrong with it names it, as far as its name could be read.
    pub(super) fn parse(header: Header, body: &'a [u8]) -> Result<Frame<'a>, Violation> {
        let named = |violation| Violation { reference: reference(header.kind, body), ..violation };
        if header.kind == kind::SEND {
            // By itself: most are, and a frame of any kind is large to hand on.
            return Send::parse(header, body).map(Frame::Send).map_err(named);
        }
        Frame::parse_body(header, body).map_err(named)
    }

    fn parse_body(header: Header, body: &'a [u8]) -> Result<Frame<'a>, Violation> {
        let Header { kind, flags, topic, .. } = header;
        let mut reader = Reader::new(kind, body);
        let frame = match kind {
            kind::HELLO => return Hello::parse(body).map(Frame::Hello),
            kind::SUBSCRIBE | kind::UNSUBSCRIBE => {
                let request = reader.u32()?;
                let filters = Filters { request, filters: reader.filters()? };
                if filters.filters.is_empty() {
                    return Err(reader.wrong("it names no filter"));
                }
                if kind == kind::SUBSCRIBE { Frame::Subscribe(filters) } else { Frame::Unsubscribe(filters) }
            }
            kind::ACK => Frame::Ack(Ack { largest: reader.u64()?, bitmap: reader.u64()? }),
            kind::PING => {
                let nonce = reader.u64()?;
                Frame::Ping { nonce, cookie: if reader.is_empty() { None } else { Some(reader.u64()?) } }
            }
            kind::PONG => Frame::Pong { nonce: reader.u64()? },
            kind::BYE if body.len() > MAX_REASON => return Err(reader.wrong("the reason is too long")),
            kind::BYE => Frame::Bye(text(kind, reader.rest())?),
            kind::WELCOME => Frame::Welcome(welcome(&mut reader)?),
            kind::RETRY => Frame::Retry { nonce: reader.u64()?, cookie: reader.u64()? },
            kind::UPCALL => {
                let (sequence, source, time, prev) = (reader.u64()?, reader.u48()?, reader.u48()?, reader.u32()?);
                let topic = reader.topic(topic)?;
                Frame::Upcall(Upcall { sequence, source, time, prev, topic, payload: reader.rest() })
            }
            kind::RECEIPT => {
                let (id, sequence, due) = (reader.u64()?, reader.u64()?, reader.u32()?);
                Frame::Receipt(Receipt { id, sequence, due, repeat: flags & flag::REPEAT != 0 })
            }
            kind::GAP => {
                let (first, last) = (reader.u64()?, reader.u64()?);
                let reason = GapReason::from_number(reader.u8()?).ok_or_else(|| reader.wrong("no such reason"))?;
                reader.zeros::<3>()?;
                if first == 0 || first > last {
                    return Err(reader.wrong("that is no range of sequences"));
                }
                Frame::Gap(Gap { first, last, reason })
            }
            kind::SUBSCRIBED => {
                let (request, from) = (reader.u32()?, reader.u64()?);
                let everything = flags & flag::EVERYTHING != 0;
                Frame::Subscribed { request, from, everything, filters: reader.filters()? }
            }
            kind::ERROR => {
                let code = Code::from_number(reader.u16()?).ok_or_else(|| reader.wrong("no such code"))?;
                let about = reader.u8()?;
                reader.zeros::<1>()?;
                let reference = reader.u64()?;
                Frame::Error(ErrorFrame { code, about, reference, text: text(kind, reader.rest())? })
            }
            _ => return Ok(Frame::Skippable(kind)),
        };
        reader.end()?;
        Ok(frame)
    }
}

impl<'a> Send<'a> {
    fn parse(Header { kind, flags, topic, .. }: Header, body: &'a [u8]) -> Result<Send<'a>, Violation> {
        let mut reader = Reader::new(kind, body);
        let (id, topic) = (reader.u64()?, reader.topic(topic)?);
        Ok(Send { id, receipt: flags & flag::RECEIPT != 0, topic, payload: reader.rest() })
    }
}

fn welcome(reader: &mut Reader<'_>) -> Result<Welcome, Violation> {
    let (version, flags) = (reader.u8()?, reader.u8()?);
    reader.zeros::<2>()?;
    let welcome = Welcome {
        version,
        resumed: flags & 1 != 0,
        lease: reader.u32()?,
        id: reader.u64()?,
        secret: reader.array()?,
        key: reader.u64()?,
        log: reader.u64()?,
        start: reader.u64()?,
        next: reader.u64()?,
        nonce: reader.u64()?,
        last_message: reader.u64()?,
        max_message: reader.u32()?,
    };
    reader.zeros::<4>()?;
    Ok(welcome)
}
