//! Writing of frames.

use std::ops::Range;

use super::Frame;
use super::bodies::{Filters, Send, Upcall};
use super::kinds::{flag, kind};
use super::limits::{HEADER, SEND_OVERHEAD, UPCALL_OVERHEAD};

/// Appends a frame: its header, and the body that `write` appends. Then fills in the length of the body.
fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, topic: &str, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, kind, flags, topic.len() as u8, 0, 0, 0, 0]);
    write(out);
    let length = (out.len() - start - HEADER) as u32;
    out[start + 4..start + HEADER].copy_from_slice(&length.to_be_bytes());
}

fn filters(out: &mut Vec<u8>, filters: &[&str]) {
    for filter in filters {
        out.push(filter.len() as u8);
        out.extend_from_slice(filter.as_bytes());
    }
}

impl Frame<'_> {
    /// Appends the frame to `out`. The caller guarantees that its contents are within the limits of upcall-protocol(7):
    /// topics, filters and names are valid, and the length of the payload fits a `u32`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let be = |out: &mut Vec<u8>, numbers: &[u64]| numbers.iter().for_each(|n| out.extend(n.to_be_bytes()));
        match self {
            Frame::Hello(hello) => frame(out, kind::HELLO, 0, "", |out| {
                out.extend_from_slice(&[hello.versions.0, hello.versions.1, hello.role.number(), 0]);
                be(out, &[hello.nonce]);
                hello.write(out);
            }),
            Frame::Send(send) => send.write(out),
            Frame::Subscribe(request) => request.write(kind::SUBSCRIBE, out),
            Frame::Unsubscribe(request) => request.write(kind::UNSUBSCRIBE, out),
            Frame::Ack(ack) => frame(out, kind::ACK, 0, "", |out| be(out, &[ack.largest, ack.bitmap])),
            Frame::Ping { nonce, cookie } => frame(out, kind::PING, 0, "", |out| {
                be(out, &[*nonce]);
                be(out, cookie.as_slice());
            }),
            Frame::Pong { nonce } => frame(out, kind::PONG, 0, "", |out| be(out, &[*nonce])),
            Frame::Bye(reason) => frame(out, kind::BYE, 0, "", |out| out.extend_from_slice(reason.as_bytes())),
            Frame::Welcome(w) => frame(out, kind::WELCOME, 0, "", |out| {
                out.extend_from_slice(&[w.version, u8::from(w.resumed), 0, 0]);
                out.extend_from_slice(&w.lease.to_be_bytes());
                be(out, &[w.id]);
                out.extend_from_slice(&w.secret);
                be(out, &[w.key, w.log, w.start, w.next, w.nonce, w.last_message]);
                out.extend_from_slice(&w.max_message.to_be_bytes());
                out.extend_from_slice(&[0; 4]);
            }),
            Frame::Retry { nonce, cookie } => frame(out, kind::RETRY, 0, "", |out| be(out, &[*nonce, *cookie])),
            Frame::Upcall(upcall) => upcall.write(out),
            Frame::Receipt(receipt) => {
                let flags = if receipt.repeat { flag::REPEAT } else { 0 };
                frame(out, kind::RECEIPT, flags, "", |out| {
                    be(out, &[receipt.id, receipt.sequence]);
                    out.extend_from_slice(&receipt.due.to_be_bytes());
                });
            }
            Frame::Gap(gap) => frame(out, kind::GAP, 0, "", |out| {
                be(out, &[gap.first, gap.last]);
                out.extend_from_slice(&[gap.reason.number(), 0, 0, 0]);
            }),
            Frame::Subscribed { request, from, everything, filters: in_force } => {
                let flags = if *everything { flag::EVERYTHING } else { 0 };
                frame(out, kind::SUBSCRIBED, flags, "", |out| {
                    out.extend_from_slice(&request.to_be_bytes());
                    be(out, &[*from]);
                    filters(out, in_force);
                });
            }
            Frame::Error(error) => frame(out, kind::ERROR, 0, "", |out| {
                out.extend_from_slice(&error.code.number().to_be_bytes());
                out.extend_from_slice(&[error.about, 0]);
                be(out, &[error.reference]);
                out.extend_from_slice(error.text.as_bytes());
            }),
            Frame::Skippable(kind) => frame(out, *kind, 0, "", |_| {}),
        }
    }

    /// The bytes of the frame.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

impl Filters<'_> {
    fn write(&self, kind: u8, out: &mut Vec<u8>) {
        frame(out, kind, 0, "", |out| {
            out.extend_from_slice(&self.request.to_be_bytes());
            filters(out, &self.filters);
        });
    }
}

impl Send<'_> {
    /// Appends the frame to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(SEND_OVERHEAD + self.topic.len() + self.payload.len());
        frame(out, kind::SEND, if self.receipt { flag::RECEIPT } else { 0 }, self.topic, |out| {
            out.extend_from_slice(&self.id.to_be_bytes());
            out.extend_from_slice(self.topic.as_bytes());
            out.extend_from_slice(self.payload);
        });
    }
}

/// The place of `prev` in an UPCALL frame.
const PREV: Range<usize> = 28..32;

impl Upcall<'_> {
    /// The length of the frame, in bytes.
    pub fn size(&self) -> usize {
        UPCALL_OVERHEAD + self.topic.len() + self.payload.len()
    }

    /// Appends the frame to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.size(), 0);
        self.fill(&mut out[start..]);
    }

    /// Writes the frame to `out`, which must be [`Upcall::size`] bytes long.
    ///
    /// # Panics
    ///
    /// If `out` has another length.
    #[inline]
    pub fn fill(&self, out: &mut [u8]) {
        let length = (out.len() - HEADER) as u64 & u64::from(u32::MAX);
        let (front, body) = out.split_at_mut(UPCALL_OVERHEAD);
        // Source and time have 48 bits each and share two words with `prev`.
        let words = [
            u64::from(kind::UPCALL) << 48 | (self.topic.len() as u64) << 32 | length,
            self.sequence,
            self.source << 16 | self.time >> 32 & 0xffff,
            self.time << 32 | u64::from(self.prev),
        ];
        for (place, word) in front.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        let (topic, payload) = body.split_at_mut(self.topic.len());
        topic.copy_from_slice(self.topic.as_bytes());
        payload.copy_from_slice(self.payload);
    }

    /// Replaces `prev` in a written frame.
    pub fn patch_prev(frame: &mut [u8], prev: u64) {
        frame[PREV].copy_from_slice(&(prev as u32).to_be_bytes());
    }

    /// The topic in a written frame.
    pub fn topic_of(frame: &[u8]) -> &[u8] {
        &frame[UPCALL_OVERHEAD..UPCALL_OVERHEAD + usize::from(frame[3])]
    }
}
