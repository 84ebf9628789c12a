//! The template that renders an upcall for text endpoints, such as `Upcall event: Processing {data}`.

use std::fmt;
use std::io::Write;
use std::time::SystemTime;

/// The template of the practicum's server, and the default.
pub const DEFAULT_FORMAT: &str = "Upcall event: Processing {data}";

/// The names that may appear in braces.
pub const FIELDS: [&str; 5] = ["data", "seq", "topic", "from", "time"];

/// A parsed template.
///
/// | in the template | in the rendition |
/// |---|---|
/// | `{data}` | the message, byte for byte, its newline included if it has one |
/// | `{seq}` | its sequence |
/// | `{topic}` | its topic; empty if it has none, as with every text message |
/// | `{from}` | the endpoint that sent it |
/// | `{time}` | when it was received (RFC 3339, UTC, milliseconds) |
/// | `{{`, `}}` | a brace |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    pieces: Vec<Piece>,
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Data,
    Sequence,
    Topic,
    From,
    Time,
}

/// The values that a template can render.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a, F> {
    /// The message.
    pub data: &'a [u8],
    /// Its sequence.
    pub sequence: u64,
    /// Its topic; empty if it has none.
    pub topic: &'a str,
    /// The endpoint that sent it.
    pub from: F,
    /// When it was received.
    pub time: SystemTime,
}

/// A mistake in a template, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatError {
    /// The offset of the mistake in the template, in bytes.
    pub offset: usize,
    /// What is wrong, and what to write instead.
    pub message: String,
    /// The name in braces, if the mistake is an unknown name.
    pub unknown: Option<String>,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FormatError {}

impl Format {
    /// Parses a template.
    ///
    /// # Errors
    ///
    /// Fails at the first brace without its counterpart, or the first unknown name in braces.
    pub fn parse(source: &str) -> Result<Format, FormatError> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut at = 0;
        while let Some(found) = source[at..].find(['{', '}']) {
            let brace = at + found;
            literal.extend_from_slice(&source.as_bytes()[at..brace]);
            let rest = &source[brace..];
            if rest.starts_with("{{") || rest.starts_with("}}") {
                literal.push(rest.as_bytes()[0]);
                at = brace + 2;
                continue;
            }
            let error = |message: &str| FormatError { offset: brace, message: message.into(), unknown: None };
            if rest.starts_with('}') {
                return Err(error("a closing brace without an opening one; write }} for a brace"));
            }
            let end =
                rest.find('}').ok_or_else(|| error("an opening brace without a closing one; write {{ for a brace"))?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(match &rest[1..end] {
                "data" => Piece::Data,
                "seq" => Piece::Sequence,
                "topic" => Piece::Topic,
                "from" => Piece::From,
                "time" => Piece::Time,
                unknown => {
                    let message = format!(
                        "unknown field {{{unknown}}}; there are {{data}}, {{seq}}, {{topic}}, {{from}} and {{time}}"
                    );
                    return Err(FormatError { offset: brace, message, unknown: Some(unknown.into()) });
                }
            });
            at = brace + end + 1;
        }
        literal.extend_from_slice(&source.as_bytes()[at..]);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Format { pieces, source: source.into() })
    }

    /// The text that the template was parsed from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the rendition is exactly the message.
    pub fn is_verbatim(&self) -> bool {
        matches!(self.pieces[..], [Piece::Data])
    }

    /// Appends the rendition to `out`.
    pub fn render<F: fmt::Display>(&self, fields: &Fields<'_, F>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Data => out.extend_from_slice(fields.data),
                Piece::Topic => out.extend_from_slice(fields.topic.as_bytes()),
                Piece::Sequence => display(fields.sequence, out),
                Piece::From => display(&fields.from, out),
                Piece::Time => display(humantime::format_rfc3339_millis(fields.time), out),
            }
        }
    }

    /// An upper bound of the length of a rendition, in bytes, for a message of `data` bytes.
    pub fn max_rendered(&self, data: usize) -> usize {
        // Enough for every short field: a topic (at most 128 bytes), a peer's URL, a sequence, a time.
        const FIELD: usize = 128;
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(bytes) => bytes.len(),
                Piece::Data => data,
                Piece::Sequence | Piece::Topic | Piece::From | Piece::Time => FIELD,
            })
            .sum()
    }
}

impl Default for Format {
    fn default() -> Format {
        Format::parse(DEFAULT_FORMAT).expect("the default format is well-formed")
    }
}

fn display(value: impl fmt::Display, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn render(format: &str, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let fields = Fields {
            data,
            sequence: 7,
            topic: "t",
            from: "tcp://1.2.3.4:5",
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
        };
        Format::parse(format).unwrap().render(&fields, &mut out);
        out
    }

    #[test]
    fn the_default_is_the_practicums_answer() {
        assert_eq!(render(DEFAULT_FORMAT, b"haii"), b"Upcall event: Processing haii");
        assert_eq!(render(DEFAULT_FORMAT, b"\xff\x00\n"), b"Upcall event: Processing \xff\x00\n");
    }

    #[test]
    fn every_field_is_rendered() {
        assert_eq!(
            render("{seq} {topic} {from} {time} {{{data}}}\n", b"x"),
            b"7 t tcp://1.2.3.4:5 1970-01-01T00:00:01.500Z {x}\n"
        );
        assert_eq!(render("{data}{data}", b"ab"), b"abab");
        assert_eq!(render("", b"ab"), b"");
    }

    #[test]
    fn mistakes_have_a_position() {
        for (source, offset, words) in [
            ("a {dta}", 2, "unknown field {dta}"),
            ("ab}", 2, "write }}"),
            ("ab{data", 2, "write {{"),
            ("{}", 0, "unknown field {}"),
        ] {
            let error = Format::parse(source).unwrap_err();
            assert_eq!(error.offset, offset, "{source}");
            assert!(error.message.contains(words), "{source}: {error}");
        }
    }

    #[test]
    fn the_bound_holds() {
        let format = Format::parse("{seq}{from}<{data}>{data}").unwrap();
        assert!(format.max_rendered(100) >= 202 + 20);
    }
}
