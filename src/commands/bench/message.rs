//! The messages of a run: `bench:` run `:` index `:` time, in fixed-width hexadecimal, then padding and a newline.
//!
//! Knows no socket and no daemon. Finding the messages in a stream is up to the scanner.

use memchr::memmem::Finder;

use crate::cli::MIN_SIZE;

/// `bench:`, 12 digits of run, a colon.
const MARK: usize = 19;
const INDEX: usize = MARK;
const TIME: usize = INDEX + 8 + 1;
const PADDING: usize = TIME + 16;

const _: () = assert!(PADDING + 2 <= MIN_SIZE as usize);

/// The variable content of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Its index among the messages of the run. On the wire it has 32 bits.
    pub(super) index: u64,
    /// When it was sent, in nanoseconds since the start of the run.
    pub(super) time: u64,
}

/// Writes and reads the messages of one run, which all have one size.
#[derive(Debug, Clone)]
pub(super) struct MessageFormat {
    template: Vec<u8>,
    finder: Finder<'static>,
}

impl MessageFormat {
    /// The format of a run, identified by the low 48 bits of `run`, with messages of `size` bytes, at least
    /// [`MIN_SIZE`].
    pub(super) fn new(run: u64, size: usize) -> MessageFormat {
        let run = run & 0xffff_ffff_ffff;
        let mut template = format!("bench:{run:012x}:{:08x}:{:016x} ", 0, 0).into_bytes();
        template.resize(size.max(MIN_SIZE as usize) - 1, b'x');
        template.push(b'\n');
        let finder = Finder::new(&template[..MARK]).into_owned();
        MessageFormat { template, finder }
    }

    /// The size of a message in bytes.
    pub(super) fn size(&self) -> usize {
        self.template.len()
    }

    /// How every message of this run begins, and nothing else does.
    pub(super) fn mark(&self) -> &[u8] {
        &self.template[..MARK]
    }

    /// The index of the first mark in `bytes`.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<usize> {
        self.finder.find(bytes)
    }

    /// Appends a message.
    pub(super) fn write(&self, stamp: Stamp, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.template);
        out[start + INDEX..][..8].copy_from_slice(&digits(stamp.index as u32));
        out[start + TIME..][..8].copy_from_slice(&digits((stamp.time >> 32) as u32));
        out[start + TIME + 8..][..8].copy_from_slice(&digits(stamp.time as u32));
    }

    /// Reads a message of [`MessageFormat::size`] bytes that begins with the mark; `None` if any byte differs from what
    /// was written.
    pub(super) fn read(&self, message: &[u8]) -> Option<Stamp> {
        let index = value(message.get(INDEX..INDEX + 8)?)?;
        let high = value(message.get(TIME..TIME + 8)?)?;
        let low = value(message.get(TIME + 8..TIME + 16)?)?;
        let whole = message[TIME - 1] == b':' && message[PADDING..] == self.template[PADDING..];
        whole.then(|| Stamp { index: index.into(), time: u64::from(high) << 32 | u64::from(low) })
    }
}

/// 1 in each byte. Every delivery is parsed, and this program shares a core with the daemon that it measures: eight
/// digits at once cost a dozen instructions, while one after the other they would cost a hundred.
const ONES: u64 = 0x0101_0101_0101_0101;

fn digits(value: u32) -> [u8; 8] {
    let mut x = u64::from(value);
    x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    x = (x | x << 4) & (ONES * 0x0f);
    spell(x).to_be_bytes()
}

/// Converts a nibble in each byte to a digit, 0 to 9 or a to f.
fn spell(nibbles: u64) -> u64 {
    let letters = ((nibbles + ONES * 6) >> 4) & ONES;
    nibbles + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)
}

fn value(digits: &[u8]) -> Option<u32> {
    let x = u64::from_be_bytes(digits.try_into().ok()?);
    if x & (ONES * 0x80) != 0 {
        return None;
    }
    let letters = (x >> 6) & ONES;
    let nibbles = (x & (ONES * 0x0f)) + letters * 9;
    if nibbles & (ONES * 0xf0) != 0 || spell(nibbles) != x {
        return None;
    }
    let x = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    u32::try_from((x | x >> 16) & 0xffff_ffff).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn digits_are_hexadecimal(number: u32) {
            prop_assert_eq!(digits(number).to_vec(), format!("{number:08x}").into_bytes());
            prop_assert_eq!(value(&digits(number)), Some(number));
        }

        #[test]
        fn nothing_else_is_a_number(text in prop::array::uniform8(any::<u8>())) {
            let hexadecimal = text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            prop_assert_eq!(value(&text).is_some(), hexadecimal);
        }
    }

    #[test]
    fn only_digits_are_accepted() {
        for byte in 0..=u8::MAX {
            let mut text = *b"01239abf";
            text[3] = byte;
            assert_eq!(value(&text).is_some(), matches!(byte, b'0'..=b'9' | b'a'..=b'f'), "{byte:#x}");
        }
    }

    #[test]
    fn messages_round_trip_at_every_size() {
        for size in [48, 49, 64, 1_000] {
            let format = MessageFormat::new(u64::MAX, size);
            let stamp = Stamp { index: 0xfedc_ba98, time: 0x0123_4567_89ab_cdef };
            let mut out = b"before ".to_vec();
            format.write(stamp, &mut out);
            assert_eq!((out.len(), format.find(&out), format.size()), (size + 7, Some(7), size));
            assert_eq!(format.read(&out[7..]), Some(stamp));
            assert!(out.ends_with(b"x\n") && !out[..out.len() - 1].contains(&b'\n'));
        }
    }

    #[test]
    fn a_changed_byte_is_detected_or_changes_a_number() {
        let format = MessageFormat::new(1, 48);
        let stamp = Stamp { index: 5, time: 7 };
        let mut message = Vec::new();
        format.write(stamp, &mut message);
        for i in MARK..message.len() {
            message[i] ^= 1;
            assert_ne!(format.read(&message), Some(stamp), "byte {i}");
            message[i] ^= 1;
        }
        assert_eq!(format.read(&message), Some(stamp));
    }
}
