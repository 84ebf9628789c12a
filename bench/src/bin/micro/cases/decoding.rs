//! Cases of the decoders: bytes in, messages out.

use std::hint::black_box;
use std::io;

use upcall_wire::frame::{self, Frame, Send};
use upcall_wire::text::{self, End, Framing};

use crate::counting::{check, counted};
use crate::harness::{MAX_MESSAGE, MESSAGE};

/// Messages in a stream.
const MESSAGES: u64 = 4_000;

/// A stream of SEND frames in reads of `read` bytes.
pub(crate) fn frames(read: usize) -> io::Result<u64> {
    let send = |id| Frame::Send(Send { id, receipt: false, topic: "", payload: MESSAGE }).to_vec();
    let stream: Vec<u8> = (1..=MESSAGES).flat_map(send).collect();
    let mut decoder = frame::FrameDecoder::default();
    let mut decoded = 0;
    counted(1, |_| {
        for mut bytes in stream.chunks(read) {
            while let Ok(Some(frame)) = decoder.next(&mut bytes, MAX_MESSAGE) {
                black_box(&frame);
                decoded += 1;
            }
        }
    });
    check("decoded", decoded, 2 * MESSAGES)?;
    Ok(MESSAGES)
}

/// A stream of lines in reads of `read` bytes.
pub(crate) fn lines(read: usize) -> io::Result<u64> {
    text(Framing::Auto, &MESSAGE.repeat(MESSAGES as usize), read)
}

/// Messages without a newline, one in each read.
pub(crate) fn chunks() -> io::Result<u64> {
    text(Framing::Chunk, &b"x".repeat(MESSAGE.len() * MESSAGES as usize), MESSAGE.len())
}

fn text(framing: Framing, stream: &[u8], read: usize) -> io::Result<u64> {
    let mut decoder = text::TextDecoder::new(framing);
    let mut decoded = 0;
    counted(1, |_| {
        for mut bytes in stream.chunks(read) {
            let end = if bytes.len() < 64 << 10 { End::Drained } else { End::More };
            while let Ok(Some(message)) = decoder.next(&mut bytes, end, MAX_MESSAGE) {
                black_box(message);
                decoded += 1;
            }
        }
    });
    check("decoded", decoded, 2 * MESSAGES)?;
    Ok(MESSAGES)
}
