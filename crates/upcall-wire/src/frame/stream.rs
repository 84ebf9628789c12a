//! The boundaries of frames in a stream.

use super::Frame;
use super::code::Violation;
use super::header::Header;
use super::kinds::kind;
use super::limits::{HEADER, SEND_OVERHEAD};

/// Divides one stream into frames. Keeps an incomplete frame, at most one, and nothing else.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    /// The beginning of an incomplete frame, or the frame that was returned last.
    pub(super) carry: Vec<u8>,
    returned: bool,
}

/// The first word of a SEND without flags and topic, if its length were 0.
const PLAIN: u64 = (kind::SEND as u64) << 48;

/// The length of the message id, which precedes the payload in its body, in bytes.
const ID: u64 = (SEND_OVERHEAD - HEADER) as u64;

impl FrameDecoder {
    /// Takes plain SENDs from the front of `input` and returns their payloads: SENDs that are complete, ask for no
    /// receipt, have no topic and at most `max` bytes of payload, and are numbered consecutively from `next`. They are
    /// the frames that [`FrameDecoder::next`] would return, only faster. Ends at the first frame that is anything else.
    pub fn sends<'a>(&mut self, input: &mut &'a [u8], mut next: u64, max: usize) -> impl Iterator<Item = &'a [u8]> {
        self.free_returned();
        let plain = self.carry.is_empty();
        let max = u32::try_from(max).unwrap_or(u32::MAX).into();
        std::iter::from_fn(move || {
            let (header, rest) = if plain { input.split_first_chunk()? } else { return None };
            let (id, rest) = rest.split_first_chunk()?;
            // Any other kind, flag or topic length sets a high bit, which makes this larger than any payload.
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

    /// Takes the next frame from the front of `input`. It borrows from `input` where it is complete there. Returns
    /// `None` when all of `input` is consumed and no frame ends in it.
    ///
    /// # Errors
    ///
    /// What is wrong with the frame. A frame that claims a payload above `max` bytes, or more than its kind allows, is
    /// refused by its header: nothing is kept or allocated for it. After an error the rest of the stream has no
    /// meaning.
    pub fn next<'a, 'b: 'a>(&'a mut self, input: &mut &'b [u8], max: usize) -> Result<Option<Frame<'a>>, Violation> {
        self.free_returned();
        if self.carry.is_empty() {
            let Some((header, body)) = input.split_first_chunk() else {
                self.keep(input, HEADER);
                return Ok(None);
            };
            let header = Header::parse_limited(header, max)?;
            let length = header.length as usize;
            let Some((body, rest)) = body.split_at_checked(length) else {
                self.keep(input, HEADER + length);
                return Ok(None);
            };
            *input = rest;
            return Frame::parse(header, body).map(Some);
        }
        self.keep(input, HEADER);
        let header = match self.carry.first_chunk() {
            Some(header) => Header::parse_limited(header, max)?,
            None => return Ok(None),
        };
        let whole = HEADER + header.length as usize;
        self.keep(input, whole);
        if self.carry.len() < whole {
            return Ok(None);
        }
        self.returned = true;
        Frame::parse(header, &self.carry[HEADER..]).map(Some)
    }

    /// Frees the frame that was returned last. Most streams have no incomplete frame most of the time, so its memory is
    /// not kept.
    fn free_returned(&mut self) {
        if std::mem::take(&mut self.returned) {
            self.carry = Vec::new();
        }
    }

    /// Moves bytes from `input` until `whole` bytes are kept, or `input` is empty.
    fn keep(&mut self, input: &mut &[u8], whole: usize) {
        let (taken, rest) = input.split_at(input.len().min(whole.saturating_sub(self.carry.len())));
        self.carry.extend_from_slice(taken);
        *input = rest;
    }

    /// Whether an incomplete frame is kept.
    pub fn is_unfinished(&self) -> bool {
        !self.returned && !self.carry.is_empty()
    }
}
