//! The forms in which `upcall-client listen` prints native upcalls and gaps.

use std::io::{self, IsTerminal, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use upcall_client::{Gap, Upcall};
use upcall_wire::escape::Escaped;
use upcall_wire::format::{Fields, Format};

use crate::cli::ListenOptions;
use crate::commands::failure::Failure;
use crate::commands::terminal::output::terminal_safe;
use crate::exit::Status;

/// How a native upcall is printed.
#[derive(Debug)]
pub(super) enum UpcallStyle {
    /// As a JSON object on a separate line.
    Json,
    /// In a text format, ended by the byte `end`. `escaped`: with the characters escaped that a terminal would
    /// interpret.
    Format { format: Format, escaped: bool, end: u8 },
}

#[derive(Serialize)]
struct UpcallRecord<'a> {
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    /// The endpoint that sent the input, if it came from a registered one.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

impl UpcallStyle {
    /// The style that the options ask for. Fails if `--format` is wrong.
    pub(super) fn new(options: &ListenOptions) -> Result<UpcallStyle, Failure> {
        if options.json {
            return Ok(UpcallStyle::Json);
        }
        let template = options.format.as_deref().unwrap_or("{data}");
        let format =
            Format::parse(template).map_err(|error| Failure::new(Status::Usage, format!("--format: {error}")))?;
        let escaped = !options.null && io::stdout().is_terminal();
        Ok(UpcallStyle::Format { format, escaped, end: if options.null { 0 } else { b'\n' } })
    }

    /// Appends an upcall.
    pub(super) fn upcall(&self, upcall: &Upcall, out: &mut Vec<u8>) {
        match self {
            UpcallStyle::Json => {
                out.extend_from_slice(json(upcall).as_bytes());
                out.push(b'\n');
            }
            UpcallStyle::Format { format, escaped, end } => {
                let start = out.len();
                let fields = Fields {
                    data: &upcall.payload,
                    sequence: upcall.sequence,
                    topic: &upcall.topic,
                    from: upcall.source,
                    time: upcall.received(),
                };
                format.render(&fields, out);
                // A newline at the end of the payload, as in text, is the newline that ends the line.
                if *end == b'\n' && out.len() > start && out.ends_with(b"\n") {
                    out.pop();
                }
                if *escaped {
                    let text = Escaped(&out[start..]).to_string();
                    out.truncate(start);
                    out.extend_from_slice(text.as_bytes());
                }
                out.push(*end);
            }
        }
    }

    /// Appends a gap, in styles that show gaps among the upcalls.
    pub(super) fn gap(&self, gap: &Gap, out: &mut Vec<u8>) {
        if let UpcallStyle::Json = self {
            let Gap { first, last, loss } = gap;
            let gap = serde_json::json!({ "gap": { "first": first, "last": last, "reason": loss.name() } });
            // Writing to a Vec cannot fail.
            let _ = writeln!(out, "{gap}");
        }
    }
}

/// The notice about a gap for the user.
pub(super) fn gap_notice(gap: &Gap) -> String {
    let Gap { first, last, loss } = gap;
    match first == last {
        true => format!("upcall {first} is missing: {}", loss.name()),
        false => format!("upcalls {first} to {last} are missing: {}", loss.name()),
    }
}

fn json(upcall: &Upcall) -> String {
    let text = std::str::from_utf8(&upcall.payload).ok();
    let record = UpcallRecord {
        sequence: upcall.sequence,
        topic: Some(upcall.topic.as_str()).filter(|topic| !topic.is_empty()),
        from: Some(upcall.source).filter(|source| *source != 0),
        time: time(upcall),
        data: text,
        data_base64: text.is_none().then(|| STANDARD.encode(&upcall.payload)),
    };
    // Numbers and strings can always be serialized.
    terminal_safe(serde_json::to_string(&record).unwrap_or_default())
}

/// When the daemon received the input (RFC 3339, UTC, milliseconds).
pub(super) fn time(upcall: &Upcall) -> String {
    humantime::format_rfc3339_millis(upcall.received()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use upcall_client::Loss;

    fn upcall(topic: &str, source: u64, payload: &[u8]) -> Upcall {
        Upcall { sequence: 7, source, time: 1_500, topic: topic.into(), payload: payload.to_vec() }
    }

    fn shown(style: &UpcallStyle, upcall: &Upcall) -> String {
        let mut out = Vec::new();
        style.upcall(upcall, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_has_every_field_that_is_known() {
        assert_eq!(
            shown(&UpcallStyle::Json, &upcall("door/1", 3, b"a\n")),
            "{\"sequence\":7,\"topic\":\"door/1\",\"from\":3,\"time\":\"1970-01-01T00:00:01.500Z\",\"data\":\"a\\n\"}\n"
        );
        assert_eq!(
            shown(&UpcallStyle::Json, &upcall("", 0, b"\xff")),
            "{\"sequence\":7,\"time\":\"1970-01-01T00:00:01.500Z\",\"data_base64\":\"/w==\"}\n"
        );
        let mut out = Vec::new();
        UpcallStyle::Json.gap(&Gap { first: 1, last: 3, loss: Loss::Evicted }, &mut out);
        assert_eq!(out, b"{\"gap\":{\"first\":1,\"last\":3,\"reason\":\"evicted\"}}\n");
    }

    #[test]
    fn templates_end_in_one_newline_or_nul() {
        let style =
            |template, escaped, end| UpcallStyle::Format { format: Format::parse(template).unwrap(), escaped, end };
        assert_eq!(shown(&style("{data}", false, b'\n'), &upcall("", 0, b"a\n")), "a\n");
        assert_eq!(shown(&style("{data}", false, 0), &upcall("", 0, b"a\n")), "a\n\0");
        assert_eq!(
            shown(&style("{seq} {from} {topic}:{data}", true, b'\n'), &upcall("t", 3, b"\x1b")),
            "7 3 t:\\x1b\n"
        );
    }

    #[test]
    fn gaps_are_named() {
        assert_eq!(gap_notice(&Gap { first: 2, last: 2, loss: Loss::TooLarge }), "upcall 2 is missing: too_large");
        let gap = Gap { first: 2, last: 4, loss: Loss::SlowConsumer };
        assert_eq!(gap_notice(&gap), "upcalls 2 to 4 are missing: slow_consumer");
    }
}
