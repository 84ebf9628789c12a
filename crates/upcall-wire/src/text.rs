//! The boundaries of messages in a text stream: lines, or chunks as they arrive.
//!
//! This module knows neither sockets nor endpoints. The caller reads, and passes what it knows about the bytes that
//! follow as an [`End`].

use memchr::memchr;

use crate::reason::Reason;

/// How a text stream is divided into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// Chunks until the first newline, then lines.
    #[default]
    Auto,
    /// A message ends at a newline or at end of file.
    Line,
    /// A message ends at a newline, or when a read has drained the socket.
    Chunk,
}

/// What the caller knows about the stream after the bytes that it gives to [`TextDecoder::next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// More may be available at once: the read filled its buffer.
    More,
    /// The socket is drained for now.
    Drained,
    /// The stream ends here.
    Eof,
}

/// Divides one stream into messages. Keeps an incomplete message, at most one, and nothing else.
#[derive(Debug, Default)]
pub struct TextDecoder {
    /// Boxed, because most connections have no incomplete message most of the time.
    carry: Option<Box<Carry>>,
    framing: Framing,
    /// Whether the first message is complete. Before that, the stream may turn out to be HTTP.
    begun: bool,
}

#[derive(Debug, Default)]
struct Carry {
    /// The beginning of an incomplete message, or the message that was returned last.
    bytes: Vec<u8>,
    returned: bool,
}

impl TextDecoder {
    /// Creates a decoder for the beginning of a stream.
    pub fn new(framing: Framing) -> TextDecoder {
        TextDecoder { framing, ..TextDecoder::default() }
    }

    /// Takes complete lines from the front of `input`, as long as each of them is a message without further checks.
    /// They are the messages that [`TextDecoder::next`] would return, only faster. Ends at the first line that needs
    /// `next`: one that begins in an earlier read, is longer than `max` bytes, or is the first of the stream.
    pub fn lines<'a>(&mut self, input: &mut &'a [u8], max: usize) -> impl Iterator<Item = &'a [u8]> {
        self.carry.take_if(|carry| carry.returned);
        let plain = self.begun && self.carry.is_none();
        std::iter::from_fn(move || {
            let end = if plain { memchr(b'\n', input)? + 1 } else { return None };
            if end > max {
                return None;
            }
            if self.framing == Framing::Auto {
                self.framing = Framing::Line;
            }
            let (line, rest) = input.split_at(end);
            *input = rest;
            Some(line)
        })
    }

    /// Takes the next message from the front of `input`, newline included. It is a slice of `input` if it begins there.
    /// Returns `None` when all of `input` is consumed and no message ends in it.
    ///
    /// # Errors
    ///
    /// [`Reason::MessageTooLarge`] above `max` bytes, newline included; [`Reason::Http`] if the first line is an HTTP
    /// request.
    pub fn next<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b [u8],
        end: End,
        max: usize,
    ) -> Result<Option<&'a [u8]>, Reason> {
        // Most streams have no incomplete message most of the time: free the memory rather than keep it.
        self.carry.take_if(|carry| carry.returned);
        let newline = memchr(b'\n', input);
        let (taken, rest) = input.split_at(newline.map_or(input.len(), |at| at + 1));
        *input = rest;
        if self.carried().len() + taken.len() > max {
            return Err(Reason::MessageTooLarge);
        }
        let ended = match (newline, end) {
            (Some(_), _) => true,
            (None, End::Eof) => true,
            (None, End::Drained) => self.framing != Framing::Line && !self.may_be_http(taken),
            (None, End::More) => false,
        };
        if newline.is_some() && self.framing == Framing::Auto {
            self.framing = Framing::Line;
        }
        if !ended {
            if !taken.is_empty() {
                self.carry.get_or_insert_default().bytes.extend_from_slice(taken);
            }
            return Ok(None);
        }
        let message = match &mut self.carry {
            None => taken,
            Some(carry) => {
                carry.bytes.extend_from_slice(taken);
                carry.returned = true;
                &carry.bytes
            }
        };
        if message.is_empty() {
            return Ok(None);
        }
        if !std::mem::replace(&mut self.begun, true) && is_http_request(message) {
            return Err(Reason::Http);
        }
        Ok(Some(message))
    }

    /// Whether an incomplete message is kept.
    pub fn is_unfinished(&self) -> bool {
        self.carry.as_ref().is_some_and(|carry| !carry.returned)
    }

    fn carried(&self) -> &[u8] {
        self.carry.as_ref().map_or(&[], |carry| &carry.bytes)
    }

    /// Whether the first message could be the beginning of an HTTP request line. It is then kept until its newline
    /// comes, so that a web page cannot get its request line delivered in chunks.
    fn may_be_http(&self, taken: &[u8]) -> bool {
        let first = if self.carried().is_empty() { taken } else { self.carried() };
        !self.begun && strip_method(first).is_some_and(|target| target.starts_with(b"/"))
    }
}

/// The methods of RFC 9110, PATCH (RFC 5789), and the preface of HTTP/2 (RFC 9113).
const METHODS: [&[u8]; 10] =
    [b"GET ", b"POST ", b"HEAD ", b"OPTIONS ", b"PUT ", b"DELETE ", b"PATCH ", b"CONNECT ", b"TRACE ", b"PRI "];

fn strip_method(line: &[u8]) -> Option<&[u8]> {
    METHODS.iter().find_map(|method| line.strip_prefix(*method))
}

/// Whether a line is `METHOD target HTTP/version` (RFC 9112, section 3). A web page can make a browser send such a line
/// to a loopback port, and can choose what follows it.
fn is_http_request(line: &[u8]) -> bool {
    let Some(target_and_version) = strip_method(line) else { return false };
    let mut words = target_and_version.trim_ascii_end().split(|byte| *byte == b' ');
    matches!((words.next(), words.next(), words.next()), (Some(_), Some(version), None) if version.starts_with(b"HTTP/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 64;

    /// Decodes reads, each of which drains the socket, then end of file.
    fn decode(framing: Framing, reads: &[&[u8]]) -> Result<Vec<Vec<u8>>, Reason> {
        let mut decoder = TextDecoder::new(framing);
        let mut messages = Vec::new();
        for (mut input, end) in reads.iter().map(|read| (*read, End::Drained)).chain([(&b""[..], End::Eof)]) {
            // Lines first, as the daemon does it: they are a faster way to the same messages.
            loop {
                messages.extend(decoder.lines(&mut input, MAX).map(<[u8]>::to_vec));
                let Some(message) = decoder.next(&mut input, end, MAX)? else { break };
                messages.push(message.to_vec());
            }
            assert!(input.is_empty());
        }
        Ok(messages)
    }

    #[test]
    fn auto_is_chunks_until_the_first_newline_then_lines() {
        let reads: [&[u8]; 5] = [b"haii", b"bye", b"a\nb", b"c\n", b"tail"];
        let messages = decode(Framing::Auto, &reads).unwrap();
        assert_eq!(messages, [&b"haii"[..], b"bye", b"a\n", b"bc\n", b"tail"]);
    }

    #[test]
    fn chunk_ends_at_every_drained_read_and_line_at_none() {
        let reads: [&[u8]; 3] = [b"a\nb", b"c", b"d\n"];
        assert_eq!(decode(Framing::Chunk, &reads).unwrap(), [&b"a\n"[..], b"b", b"c", b"d\n"]);
        assert_eq!(decode(Framing::Line, &reads).unwrap(), [&b"a\n"[..], b"bcd\n"]);
    }

    #[test]
    fn a_read_that_filled_its_buffer_ends_no_chunk() {
        let mut decoder = TextDecoder::new(Framing::Auto);
        let mut input: &[u8] = b"abc";
        assert_eq!(decoder.next(&mut input, End::More, MAX), Ok(None));
        assert!(decoder.is_unfinished());
        assert_eq!(decoder.next(&mut &b""[..], End::Drained, MAX), Ok(Some(&b"abc"[..])));
        assert!(!decoder.is_unfinished());
        assert_eq!(decoder.next(&mut &b""[..], End::Drained, MAX), Ok(None));
    }

    #[test]
    fn max_counts_the_newline() {
        let exact = [b"x".repeat(MAX - 1), b"\n".to_vec()].concat();
        assert_eq!(decode(Framing::Line, &[&exact]).unwrap().len(), 1);
        let over = b"x".repeat(MAX + 1);
        for framing in [Framing::Auto, Framing::Line, Framing::Chunk] {
            assert_eq!(decode(framing, &[&over]), Err(Reason::MessageTooLarge));
            assert_eq!(decode(framing, &[b"x\n", &over, b"\n"]), Err(Reason::MessageTooLarge));
        }
    }

    #[test]
    fn a_first_line_of_http_is_refused_however_it_is_split() {
        let request: &[u8] = b"POST /x HTTP/1.1\r\nHost: localhost\r\n\r\nbody";
        for split in 6..request.len() {
            let (a, b) = request.split_at(split);
            for framing in [Framing::Auto, Framing::Line, Framing::Chunk] {
                assert_eq!(decode(framing, &[a, b]), Err(Reason::Http), "split at {split}");
            }
        }
        assert_eq!(decode(Framing::Auto, &[b"GET / HTTP/1.0"]), Err(Reason::Http));
        assert_eq!(decode(Framing::Auto, &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]), Err(Reason::Http));
    }

    #[test]
    fn what_only_resembles_http_is_delivered() {
        for line in
            [&b"GET lost\n"[..], b"GET / and HTTP/1.1 too\n", b"get / HTTP/1.1\n", b"I like HTTP/1.1\n", b"GET /tmp\n"]
        {
            assert_eq!(decode(Framing::Auto, &[line]).unwrap(), [line]);
        }
        let second: [&[u8]; 2] = [b"hi\n", b"GET / HTTP/1.1\n"];
        assert_eq!(decode(Framing::Auto, &second).unwrap(), second);
    }

    proptest! {
        /// However a stream in line mode is split into reads, the messages are the same.
        #[test]
        fn lines_do_not_depend_on_the_reads(stream in "[ab\n]{0,200}", cuts in prop::collection::vec(0usize..200, 0..8)) {
            let stream = stream.as_bytes();
            let whole = decode(Framing::Line, &[stream]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).chain([0, stream.len()]).collect();
            cuts.sort_unstable();
            let reads: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&decode(Framing::Line, &reads), &whole);
            if let Ok(messages) = whole {
                prop_assert_eq!(messages.concat(), stream);
            }
        }

        /// Whatever arrives, a chunk stream delivers every byte in order, or ends with a reason.
        #[test]
        fn chunks_lose_no_byte(reads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let slices: Vec<&[u8]> = reads.iter().map(Vec::as_slice).collect();
            for framing in [Framing::Auto, Framing::Chunk] {
                if let Ok(messages) = decode(framing, &slices) {
                    prop_assert_eq!(messages.concat(), reads.concat());
                }
            }
        }
    }
}
