//! Frames on a stream: where one ends and the next begins.

use super::code::{Code, Violation};
use super::decode::Header;
use super::{Frame, HEADER, MAX_HELLO, SEND_OVERHEAD, UPCALL_OVERHEAD, kind};
use crate::wire::topic::MAX_TOPIC;

/// Cuts one stream into frames. Keeps what is unfinished, at most one frame, and nothing else.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a frame whose end has not come yet, or the frame handed out last.
    pub(super) carry: Vec<u8>,
    handed_out: bool,
}

impl Decoder {
    /// The next frame in `input`, as slices of it where it is whole there; `None` when all of `input` is taken and no
    /// frame ends there. The payload of a message or an upcall may have `max` bytes. A frame that claims more than it may
    /// is an error by its header: nothing is kept or allocated for it. Behind an error the stream has no meaning.
    pub fn next<'a, 'b: 'a>(&'a mut self, input: &mut &'b [u8], max: usize) -> Result<Option<Frame<'a>>, Violation> {
        if std::mem::take(&mut self.handed_out) {
            // Most streams have nothing unfinished most of the time: give the memory back rather than keep it.
            self.carry = Vec::new();
        }
        if self.carry.is_empty() {
            let Some((header, body)) = input.split_first_chunk() else { return Ok(self.keep(input, HEADER)) };
            let header = limited(header, max)?;
            let length = header.length as usize;
            let Some((body, rest)) = body.split_at_checked(length) else {
                return Ok(self.keep(input, HEADER + length));
            };
            *input = rest;
            return Frame::parse(header, body).map(Some);
        }
        if self.carry.len() < HEADER && self.keep(input, HEADER).is_none() && self.carry.len() < HEADER {
            return Ok(None);
        }
        let header = match self.carry.first_chunk() {
            Some(header) => limited(header, max)?,
            None => return Ok(None),
        };
        let whole = HEADER + header.length as usize;
        self.keep(input, whole);
        if self.carry.len() < whole {
            return Ok(None);
        }
        self.handed_out = true;
        Frame::parse(header, &self.carry[HEADER..]).map(Some)
    }

    /// Keeps what is missing of `whole` bytes, as far as it is there.
    fn keep<'a>(&mut self, input: &mut &[u8], whole: usize) -> Option<Frame<'a>> {
        let (taken, rest) = input.split_at(input.len().min(whole.saturating_sub(self.carry.len())));
        self.carry.extend_from_slice(taken);
        *input = rest;
        None
    }

    /// Whether a frame has begun that has not ended.
    pub fn is_unfinished(&self) -> bool {
        !self.handed_out && !self.carry.is_empty()
    }
}

/// Reads a header whose frame may be as long as it says.
fn limited(header: &[u8; HEADER], max: usize) -> Result<Header, Violation> {
    let header = Header::parse(header)?;
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
