//! Finds all syntax errors of a file in one run, and adds hints to the TOML parser's messages.
//!
//! The parser continues after an error, but an unclosed header or list includes all that follows. In that case the rest
//! is parsed again by itself, only for its syntax errors. Knows no keys.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, Error};

/// At most this many times is the rest of a file parsed again, because each time the whole rest is parsed.
const MAX_RESUMED: usize = 20;

/// The result of parsing a text.
pub(super) struct Parsed<'t> {
    /// The tables, as far as they could be read.
    pub(super) root: Spanned<DeTable<'t>>,
    /// Offset and reason of every error, in the order of the file.
    pub(super) errors: Vec<(usize, String)>,
    /// Something was not closed, so the tables may not be the intended ones.
    pub(super) doubtful: bool,
}

/// Parses a text. The parser limits how deeply values and keys are nested.
pub(super) fn parse(text: &str) -> Parsed<'_> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut all = Vec::new();
    let mut from = 0;
    let mut resume = keep(text, from, &errors, &mut all);
    let doubtful = resume.is_some();
    for _ in 0..MAX_RESUMED {
        let Some(next) = resume else { break };
        from = next;
        let (_, errors) = DeTable::parse_recoverable(&text[from..]);
        resume = keep(text, from, &errors, &mut all);
    }
    Parsed { root, errors: all, doubtful }
}

/// Adds the errors of the text from `from` on, except for consequences of other errors. If something is not closed,
/// returns where to parse again.
fn keep(text: &str, from: usize, errors: &[Error], all: &mut Vec<(usize, String)>) -> Option<usize> {
    let mut errors: Vec<_> = errors.iter().map(|error| (place(text, from, error), error.message())).collect();
    errors.sort_by_key(|(offset, _)| *offset);
    let unclosed = |what: &str| errors.iter().find(|(_, message)| message.starts_with(what)).copied();
    let header = unclosed("unclosed table").or(unclosed("unclosed array table")).map(|(offset, _)| offset);
    // The parser reports an unclosed list at its end. The first error is at the first text that is not an element.
    let list = unclosed("unclosed array,")
        .or(unclosed("unclosed inline table"))
        .and_then(|_| errors.iter().find(|(_, message)| in_list(message)).map(|(offset, _)| *offset));
    let first = [header, list].into_iter().flatten().min();
    let mut broken_line: Option<Range<usize>> = None;
    for (offset, message) in errors {
        // Of several errors on a line, the first is the cause.
        if first.is_some_and(|first| offset > first) || broken_line.as_ref().is_some_and(|line| offset <= line.end) {
            continue;
        }
        broken_line = Some(line_around(text, offset));
        let echo = Some(offset) == list && !message.starts_with("unclosed");
        let reason = if echo { "the list before this is not closed".into() } else { reason(text, offset, message) };
        all.push((offset, reason));
    }
    first.map(|first| {
        let line = line_around(text, first);
        let begins_line = list == Some(first) && text[line.start..first].trim().is_empty() && line.start > from;
        if begins_line { line.start } else { text.len().min(line.end + 1) }
    })
}

fn in_list(message: &str) -> bool {
    ["array", "inline table", "key-value"].iter().any(|what| message.contains(what))
}

fn place(text: &str, from: usize, error: &Error) -> usize {
    let mut offset = text.len().min(from + error.span().map_or(0, |span| span.start));
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// The line that holds an offset, without its newline.
pub(super) fn line_around(text: &str, offset: usize) -> Range<usize> {
    let start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[offset..].find('\n').map_or(text.len(), |newline| offset + newline);
    start..end
}

/// The parser's message, with a hint about the most frequent cause.
fn reason(text: &str, offset: usize, message: &str) -> String {
    let message = message.strip_suffix(", expected nothing").unwrap_or(message);
    let rest = text[offset..line_around(text, offset).end].trim_start();
    if message.starts_with("string values must be quoted") {
        let missing = rest.is_empty() || rest.starts_with('#');
        return if missing { "the value is missing".into() } else { "a string needs quotes".into() };
    }
    let other_type = ["boolean", "float", "integer", "date"].iter().any(|kind| message.contains(kind));
    if message.starts_with("invalid") && other_type {
        format!("{message}; a string needs quotes")
    } else {
        message.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_found_once() {
        for (text, places, doubtful) in [
            ("x =\ny = # c\nz = yes", &["1:3 the value is", "2:4 the value is", "3:4 a string needs"][..], false),
            ("[a\nx =\n[b]\ny = tcp", &["1:2 unclosed table", "2:3 the value is", "4:4 invalid boolean"], true),
            ("[[a]\nx =\n", &["1:4 unclosed array table", "2:3 the value"], true),
            ("a = [\n1,\n2\nb = 1\n[c]\nd=yes\n", &["4:0 the list before this", "6:2 a string"], true),
            (
                "a = [1, , 2\nb = yes\nc = [[]\nd =\n",
                &["1:8 the list", "2:4 a string", "4:0 the list", "4:3 the value"],
                true,
            ),
            ("a = { b = 1\nc = yes", &["2:0 the list", "2:4 a string"], true),
            ("a = [1,", &["1:7 unclosed array"], true),
            ("a = \"x\nb = 'y\nc = 1\n", &["1:6 invalid basic", "2:6 invalid literal"], false),
        ] {
            let parsed = parse(text);
            let found: Vec<String> = (parsed.errors.iter())
                .map(|(offset, reason)| {
                    let line = text[..*offset].matches('\n').count() + 1;
                    format!("{line}:{} {reason}", offset - line_around(text, *offset).start)
                })
                .collect();
            let agree = found.iter().zip(places).all(|(found, expected)| found.starts_with(expected));
            assert!(agree && found.len() == places.len(), "{text:?}: {found:#?}");
            assert_eq!(parsed.doubtful, doubtful, "{text:?}");
        }
    }
}
