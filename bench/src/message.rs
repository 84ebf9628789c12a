//! The messages that are sent: 64 bytes of text that begin with the number of the message and end in a newline. A
//! receiver checks every byte.

/// Bytes of a message.
pub(crate) const LENGTH: usize = 64;

/// A message.
pub(crate) type TestMessage = [u8; LENGTH];

const PATTERN: &TestMessage = b"........ upcall-bench 0123456789abcdefghijklmnopqrstuvwxyz ABCD\n";

/// The message with this number; numbers begin at 0.
pub(crate) fn message(number: u32) -> TestMessage {
    let mut message = *PATTERN;
    for (i, byte) in message[..8].iter_mut().enumerate() {
        *byte = b"0123456789abcdef"[(number >> (28 - 4 * i)) as usize & 15];
    }
    message
}

/// The number of a message; `None` if the bytes are not a message.
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
    fn numbers_are_read_back() {
        for n in [0, 1, 0x1234_abcd, u32::MAX] {
            assert_eq!(number(&message(n)), Some(n));
        }
        let mut broken = message(7);
        broken[63] = b'x';
        assert_eq!(number(&broken), None);
    }
}
