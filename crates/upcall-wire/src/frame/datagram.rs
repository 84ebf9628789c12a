//! The envelope in front of the frames in a datagram, and the numbers of the datagrams that arrived.

use super::bodies::Ack;
use super::kinds::kind;

/// The length of an envelope, in bytes.
pub const OVERHEAD: usize = 20;

/// The beginning of a datagram: the session that it belongs to, and its number for the acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The key that the session's WELCOME gave.
    pub key: u64,
    /// The number that the receiver acknowledges; 0 for none. Clients always write 0.
    pub number: u64,
}

impl Envelope {
    /// Splits a datagram into its envelope and its frames; `None` if it has no envelope.
    pub fn split(datagram: &[u8]) -> Option<(Envelope, &[u8])> {
        let (envelope, frames) = datagram.split_first_chunk::<OVERHEAD>()?;
        let [0, kind::DATAGRAM, 0, 0, numbers @ ..] = envelope else { return None };
        let (key, number) = numbers.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        Some((Envelope { key: u64::from_be_bytes(*key), number }, frames))
    }

    /// Appends the envelope to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, kind::DATAGRAM, 0, 0]);
        out.extend_from_slice(&self.key.to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
    }
}

/// The datagrams that arrived: the largest number and the 64 before it, which is what an ACK can express.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrivals {
    largest: u64,
    bitmap: u64,
}

impl Arrivals {
    /// Adds a number. Returns whether it is new; a number that is too old to be remembered counts as not new.
    pub fn add(&mut self, number: u64) -> bool {
        if number > self.largest {
            let distance = number - self.largest;
            self.bitmap = match distance {
                1..64 => self.bitmap << distance | 1 << (distance - 1),
                64 => 1 << 63,
                _ => 0,
            };
            if self.largest == 0 {
                // The number 0 does not exist, so there is nothing before the first.
                self.bitmap = 0;
            }
            self.largest = number;
            return true;
        }
        match self.largest - number {
            0 => false,
            distance @ 1..=64 => {
                let bit = 1 << (distance - 1);
                let new = self.bitmap & bit == 0;
                self.bitmap |= bit;
                new
            }
            _ => false,
        }
    }

    /// The acknowledgement to send; `None` before the first number.
    pub fn ack(&self) -> Option<Ack> {
        (self.largest > 0).then_some(Ack { largest: self.largest, bitmap: self.bitmap })
    }
}
