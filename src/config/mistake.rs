//! Mistakes: their places and reasons. Turns offsets into lines and columns, and suppresses the consequences of a
//! syntax error.

use std::fmt;
use std::ops::Range;

use upcall_wire::escape::Escaped;

use super::syntax::line_around;

/// The most mistakes that one run lists. Without a limit, a file that is not a configuration at all would fill the
/// screen.
const MAX_LISTED: usize = 1_000;

/// The longest reason, in characters. A reason may quote a value of any length.
const MAX_REASON: usize = 400;

/// The place of a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file as a whole.
    File(String),
    /// A position in a file.
    Position {
        /// The file's name.
        file: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// An option of the command line, as it was written.
    Option(String),
}

/// One mistake. Displays as `file:line:column: reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The place.
    pub place: Place,
    /// The reason, and what to write instead: one line without control characters.
    pub reason: String,
}

/// One or more mistakes, in the order of the file. Displays as one line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// The mistakes; never empty.
    pub fn list(&self) -> &[Mistake] {
        &self.0
    }

    /// A single mistake, of a file as a whole.
    pub(super) fn of_file(file: &str, reason: impl fmt::Display) -> Mistakes {
        Mistakes(vec![Mistake::new(Place::File(file.into()), &reason.to_string())])
    }

    /// `None` if there are none.
    pub(super) fn some(list: Vec<Mistake>) -> Option<Mistakes> {
        (!list.is_empty()).then_some(Mistakes(list))
    }
}

impl Mistake {
    pub(super) fn new(place: Place, reason: &str) -> Mistake {
        let mut reason = printable(reason);
        if let Some((cut, _)) = reason.char_indices().nth(MAX_REASON) {
            reason.truncate(cut);
            reason.push('…');
        }
        Mistake { place, reason }
    }
}

/// Escapes a reason that may quote the file: the quotation must not end the line or control a terminal. Backslashes are
/// not escaped, because an ambiguous escape does no harm here.
fn printable(text: &str) -> String {
    let mut pieces = text.split('\\').map(|piece| Escaped(piece.as_bytes()).to_string());
    let first = pieces.next().unwrap_or_default();
    pieces.fold(first, |all, piece| all + "\\" + &piece)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(file) => write!(f, "{}", Escaped(file.as_bytes())),
            Place::Position { file, line, column } => write!(f, "{}:{line}:{column}", Escaped(file.as_bytes())),
            Place::Option(option) => write!(f, "{}", Escaped(option.as_bytes())),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let end_of_last = if index == 0 { "" } else { "\n" };
            write!(f, "{end_of_last}{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Collects the mistakes of a file while it is read.
///
/// After a syntax error, the parser guesses. Therefore no other mistake is reported on a line with a syntax error, and
/// the rules between keys are not checked. If even the tables are in doubt, only syntax errors are reported.
pub(super) struct Report<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<(usize, String)>,
    broken_lines: Vec<Range<usize>>,
    doubtful: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Report<'a> {
        Report { file, text, found: Vec::new(), broken_lines: Vec::new(), doubtful: false }
    }

    /// The file's text.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// Adds the syntax errors, in order, and whether they leave the tables in doubt.
    pub(super) fn syntax(&mut self, errors: Vec<(usize, String)>, doubtful: bool) {
        for (offset, reason) in errors {
            let line = line_around(self.text, offset);
            // In a table other than the intended one, every key would look wrong.
            self.doubtful |= doubtful || self.text[line.clone()].trim_start().starts_with('[');
            self.broken_lines.push(line);
            self.found.push((offset, reason));
        }
    }

    /// Reports a value or a key that is wrong by itself.
    pub(super) fn wrong(&mut self, offset: usize, reason: impl Into<String>) {
        let index = self.broken_lines.partition_point(|line| line.end < offset);
        let echo = self.broken_lines.get(index).is_some_and(|line| line.start <= offset);
        if !echo && !self.doubtful {
            self.found.push((offset, reason.into()));
        }
    }

    /// Reports keys that cannot be combined, or a missing key.
    pub(super) fn rule(&mut self, offset: usize, reason: impl Into<String>) {
        if self.broken_lines.is_empty() {
            self.found.push((offset, reason.into()));
        }
    }

    /// The mistakes in the order of the file, if there are any.
    pub(super) fn finish(mut self) -> Option<Mistakes> {
        self.found.sort_by_key(|(offset, _)| *offset);
        let more = self.found.len().saturating_sub(MAX_LISTED);
        let (mut line, mut line_start) = (1, 0);
        let mut list: Vec<Mistake> = Vec::new();
        for (offset, reason) in self.found.iter().take(MAX_LISTED) {
            let before = &self.text[line_start..*offset];
            if let Some(newline) = before.rfind('\n') {
                line += before.bytes().filter(|byte| *byte == b'\n').count();
                line_start += newline + 1;
            }
            // An editor does not count a byte order mark as a column.
            let column = self.text[line_start..*offset].trim_start_matches('\u{feff}').chars().count() + 1;
            list.push(Mistake::new(Place::Position { file: self.file.into(), line, column }, reason));
        }
        if more > 0 {
            list.push(Mistake::new(Place::File(self.file.into()), &format!("and {more} more mistakes")));
        }
        Mistakes::some(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        let text = "\u{feff}ab\n\nüü = x";
        let mut report = Report::new("f", text);
        report.wrong(text.len() - 1, "late");
        report.wrong(3, "early\x1b\n");
        let lines = report.finish().unwrap().to_string();
        assert_eq!(lines, "f:1:1: early\\x1b\\n\nf:3:6: late");
    }

    #[test]
    fn a_broken_line_has_no_echo() {
        let mut report = Report::new("f", "a = b\nc = d\n");
        report.syntax(vec![(4, "first".into())], false);
        report.wrong(4, "echo");
        report.wrong(10, "on its own");
        report.rule(10, "consequence");
        assert_eq!(report.finish().unwrap().to_string(), "f:1:5: first\nf:2:5: on its own");
    }

    #[test]
    fn the_list_is_bounded() {
        let text = "x\n".repeat(5_000);
        let mut report = Report::new("f", &text);
        (0..5_000).for_each(|line| report.wrong(2 * line, "y".repeat(1_000)));
        let mistakes = report.finish().unwrap();
        assert_eq!(mistakes.list().len(), MAX_LISTED + 1);
        assert_eq!(mistakes.list()[0].reason.chars().count(), MAX_REASON + 1);
        assert!(mistakes.to_string().ends_with("f: and 4000 more mistakes"));
    }
}
