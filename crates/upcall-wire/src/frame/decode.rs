//! Parsing of frames.

use super::Frame;
use super::bodies::{Ack, ErrorFrame, Filters, Gap, Receipt, Send, Upcall, Welcome};
use super::code::{Code, GapReason, Violation};
use super::header::Header;
use super::hello::Hello;
use super::kinds::{flag, kind};
use super::limits::{MAX_HELLO, MAX_REASON};
use super::reader::{Reader, text};

impl<'a> Frame<'a> {
    /// Takes one frame from the front of `bytes`, which hold whole frames and nothing else, as a datagram does.
    ///
    /// # Errors
    ///
    /// Fails if the frame is malformed or incomplete.
    pub fn take(bytes: &mut &'a [u8]) -> Result<Frame<'a>, Violation> {
        let incomplete = || Violation::new(Code::Malformed, 0, "the frame is cut off");
        let (header, rest) = bytes.split_first_chunk().ok_or_else(incomplete)?;
        let header = Header::parse(header)?;
        if header.length as usize > MAX_HELLO && !matches!(header.kind, kind::SEND | kind::UPCALL) {
            return Err(Violation::new(Code::TooLarge, header.kind, "the frame is larger than allowed"));
        }
        let (body, rest) = rest.split_at_checked(header.length as usize).ok_or_else(incomplete)?;
        *bytes = rest;
        Frame::parse(header, body)
    }

    /// Parses one frame. A violation carries the frame's reference if that could be read.
    pub(super) fn parse(header: Header, body: &'a [u8]) -> Result<Frame<'a>, Violation> {
        let with_reference = |violation| Violation { reference: reference(header.kind, body), ..violation };
        if header.kind == kind::SEND {
            // SENDs take a path of their own: they are most of the frames, and moving a `Frame`, which is as large as
            // its largest variant, is expensive.
            return Send::parse(header, body).map(Frame::Send).map_err(with_reference);
        }
        Frame::parse_body(header, body).map_err(with_reference)
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
                    return Err(reader.malformed("it contains no filter"));
                }
                if kind == kind::SUBSCRIBE { Frame::Subscribe(filters) } else { Frame::Unsubscribe(filters) }
            }
            kind::ACK => Frame::Ack(Ack { largest: reader.u64()?, bitmap: reader.u64()? }),
            kind::PING => {
                let nonce = reader.u64()?;
                Frame::Ping { nonce, cookie: if reader.is_empty() { None } else { Some(reader.u64()?) } }
            }
            kind::PONG => Frame::Pong { nonce: reader.u64()? },
            kind::BYE if body.len() > MAX_REASON => return Err(reader.malformed("the reason is too long")),
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
                let reason = GapReason::from_number(reader.u8()?).ok_or_else(|| reader.malformed("no such reason"))?;
                reader.zeros::<3>()?;
                if first == 0 || first > last {
                    return Err(reader.malformed("that is not a range of sequences"));
                }
                Frame::Gap(Gap { first, last, reason })
            }
            kind::SUBSCRIBED => {
                let (request, from) = (reader.u32()?, reader.u64()?);
                let everything = flags & flag::EVERYTHING != 0;
                Frame::Subscribed { request, from, everything, filters: reader.filters()? }
            }
            kind::ERROR => {
                let code = Code::from_number(reader.u16()?).ok_or_else(|| reader.malformed("no such code"))?;
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

/// What an ERROR about a frame refers to: its message id, request id or nonce; 0 if it has none, or it is cut off.
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
