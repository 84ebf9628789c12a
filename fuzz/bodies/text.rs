//! The text decoder accepts any bytes, split anywhere.

use upcall_wire::reason::Reason;
use upcall_wire::text::{End, Framing, TextDecoder};

/// The largest message, in bytes.
const MAX: usize = 64;

/// Decodes all messages up to the end of the stream or an error. `between` is the end of every piece but the last.
fn decode(framing: Framing, pieces: &[&[u8]], between: End) -> (Vec<Vec<u8>>, Option<Reason>) {
    let (mut decoder, mut messages) = (TextDecoder::new(framing), Vec::new());
    for (index, piece) in pieces.iter().enumerate() {
        let end = if index + 1 == pieces.len() { End::Eof } else { between };
        let mut rest = *piece;
        loop {
            match decoder.next(&mut rest, end, MAX) {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => break,
                Err(reason) => return (messages, Some(reason)),
            }
        }
        assert!(rest.is_empty(), "a whole piece is decoded");
    }
    assert!(!decoder.is_unfinished(), "nothing is unfinished after the end of the stream");
    (messages, None)
}

/// The first byte selects the framing, and the next two determine where the rest is split.
pub(crate) fn run(bytes: &[u8]) {
    let [framing, first, second, stream @ ..] = bytes else { return };
    let framing = [Framing::Auto, Framing::Line, Framing::Chunk][usize::from(*framing) % 3];
    let mut cuts = [usize::from(*first), usize::from(*second)].map(|cut| cut.min(stream.len()));
    cuts.sort_unstable();
    let pieces = [&stream[..cuts[0]], &stream[cuts[0]..cuts[1]], &stream[cuts[1]..]];
    for between in [End::More, End::Drained] {
        let (messages, error) = decode(framing, &pieces, between);
        for message in &messages {
            assert!((1..=MAX).contains(&message.len()), "{} bytes", message.len());
            assert!(!message[..message.len() - 1].contains(&b'\n'), "a newline inside a message");
        }
        let joined = messages.concat();
        assert!(stream.starts_with(&joined), "something was added or changed");
        assert!(error.is_some() || joined == stream, "something was lost");
        if between == End::More || framing == Framing::Line {
            assert_eq!((messages, error), decode(framing, &[stream], End::More), "wherever it is split");
        }
    }
}
