//! Frames on a stream: where one ends and the next begins.

use super::code::{Code, Violation};
use super::decode::Header;
use super::{Frame, HEADER, MAX_HELLO, SEND_OVERHEAD, UPCALL_OVERHEAD, kind};
use crate::topic::MAX_TOPIC;

/// Cuts one stream into frames. Keeps what is unfinished, at most one frame, and nothing else.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    /// The beginning of a frame whose end has not come yet, or the frame handed out last.
    pub(super) carry: Vec<u8>,
    handed_out: bool,
}

/// What a SEND without flags and topic begins with, but for its length.
const PLAIN: u64 = (kind::SEND as u64) << 48;

/// What precedes the payload in the body of one, in bytes.
const ID: u64 = (SEND_OVERHEAD - HEADER) as u64;

impl FrameDecoder {
    /// The payloads of the SENDs in `input` that are whole there, want no receipt, have no topic and count up from message
    /// `next`, each taken out of it: those that [`FrameDecoder::next`] would give up to the first frame for which there is more to
    /// it than that.
    pub fn sends<'a>(&mut self, input: &mut &'a [u8], mut next: u64, max: usize) -> impl Iterator<Item = &'a [u8]> {
        self.forget_last();
        let plain = self.carry.is_empty();
        let max = u32::try_from(max).unwrap_or(u32::MAX).into();
        std::iter::from_fn(move || {
            let (header, rest) = if plain { input.split_first_chunk()? } else { return None };
            let (id, rest) = rest.split_first_chunk()?;
            // Whatever else it begins with makes this larger than any payload.
            let size = (u64::from_be_bytes(*header) ^ PLAIN).wrapping_sub(ID);
            if size > max || u64::from_be_bytes(*id) != next {
                return None;
            }
            let (payload, rest) = rest.split_at_checked(size as usize)?;
            *input = rest;
            next += 1;
            Some(payload)
        })
    }

    /// The next frame in `input`, as slices of it where it is whole there; `None` when all of `input` is taken and no
    /// frame ends there. The payload of a message or an upcall may have `max` bytes. A frame that claims more than it may
    /// is an error by its header: nothing is kept or allocated for it. Behind an error the stream has no meaning.
    pub fn next<'a, 'b: 'a>(&'a mut self, input: &mut &'b [u8], max: usize) -> Result<Option<Frame<'a>>, Violation> {
        self.forget_last();
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

    /// Most streams have nothing unfinished most of the time: gives the memory back rather than keep it.
    fn forget_last(&mut self) {
        if std::mem::take(&mut self.handed_out) {
            self.carry = Vec::new();
        }
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
