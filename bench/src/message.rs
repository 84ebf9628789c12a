//! The message that is sent: 64 bytes of text, its number in front, a newline at the end. Any other byte at its receiver is an
//! error.

/// Bytes of a message.
pub(crate) const LENGTH: usize = 64;

/// The bytes.
pub(crate) type Message = [u8; LENGTH];

const PATTERN: &Message = b"........ upcall-bench 0123456789abcdefghijklmnopqrstuvwxyz ABCD\n";

/// The message with that number, from 0 on.
pub(crate) fn message(number: u32) -> Message {
    let mut message = *PATTERN;
    for (i, byte) in message[..8].iter_mut().enumerate() {
        *byte = b"0123456789abcdef"[(number >> (28 - 4 * i)) as usize & 15];
    }
    message
}

/// The number of a message, if it is one.
pub(crate) fn number(bytes: &[u8]) -> Option<u32> {
    if bytes.len() != LENGTH || bytes[8..] != PATTERN[8..] {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(&bytes[..8]).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back() {
        for n in [0, 1, 0x1234_abcd, u32::MAX] {
            assert_eq!(number(&message(n)), Some(n));
        }
        let mut broken = message(7);
        broken[63] = b'x';
        assert_eq!(number(&broken), None);
    }
}
