//! What surrounds frames on a datagram transport: the key of the session, and a number to be acknowledged.

use super::{Ack, kind};

/// What precedes the frames of a datagram, in bytes.
pub const OVERHEAD: usize = 20;

/// The beginning of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// That of the session's WELCOME.
    pub key: u64,
    /// To be acknowledged, unless it is 0. Clients say 0.
    pub number: u64,
}

impl Envelope {
    /// Splits a datagram into its opening and its frames; `None` if it does not have an opening.
    pub fn split(datagram: &[u8]) -> Option<(Envelope, &[u8])> {
        let (opening, frames) = datagram.split_first_chunk::<OVERHEAD>()?;
        let [0, kind::DATAGRAM, 0, 0, numbers @ ..] = opening else { return None };
        let (key, number) = numbers.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        Some((Envelope { key: u64::from_be_bytes(*key), number }, frames))
    }

    /// Appends the opening to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, kind::DATAGRAM, 0, 0]);
        out.extend_from_slice(&self.key.to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
    }
}

/// The numbers that have arrived, as far as an ACK can tell of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrivals {
    largest: u64,
    bitmap: u64,
}

impl Arrivals {
    /// Takes note of one; says whether it is new.
    pub fn add(&mut self, number: u64) -> bool {
        if number > self.largest {
            let distance = number - self.largest;
            self.bitmap = match distance {
                1..64 => self.bitmap << distance | 1 << (distance - 1),
                64 => 1 << 63,
                _ => 0,
            };
            if self.largest == 0 {
                // Nothing has the number 0.
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

    /// What to acknowledge; `None` before the first.
    pub fn ack(&self) -> Option<Ack> {
        (self.largest > 0).then_some(Ack { largest: self.largest, bitmap: self.bitmap })
    }
}
