//! The log of the daemon under test, as events.
//!
//! The harness starts the daemon with `--log-format json`, so most events are recognised by their fields. Those that
//! have no fields are recognised by the beginning of their message, here and nowhere else.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Deserialize;

use super::DEADLINE;
use super::output::Output;

/// What a log line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The first line: version and configuration.
    Configuration,
    Listening,
    NoLongerListening,
    Ready,
    /// A connection has been registered.
    Connected,
    /// A datagram peer has been registered.
    Joined,
    /// A native HELLO was accepted.
    NativeHello,
    Input,
    Left,
    Refused,
    /// A datagram was dropped.
    Dropped,
    /// Inputs are held back because an endpoint is slow.
    InputsHeld,
    /// Inputs are no longer held back for an endpoint, because its patience is used up.
    PatienceExhausted,
    /// Out of descriptors or memory: no connection is accepted for a while.
    AcceptPauses,
    AcceptResumes,
    Reloaded,
    /// The last line of a reload that was refused.
    ReloadRefused,
    Draining,
    Ended,
    Summary,
    Other,
}

/// A log line.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Entry {
    #[serde(default)]
    pub(crate) level: String,
    pub(crate) message: String,
    pub(crate) endpoint: Option<u64>,
    pub(crate) listener: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) peer: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) sequence: Option<u64>,
}

impl Entry {
    fn parse(line: &str) -> Entry {
        serde_json::from_str(line).unwrap_or_else(|_| Entry::parse_text(line))
    }

    /// A line in the text format, `TIME LEVEL MESSAGE`, has no fields.
    fn parse_text(line: &str) -> Entry {
        let mut words = line.splitn(3, ' ').skip(1);
        match (words.next(), words.next()) {
            (Some(level @ ("error" | "warn" | "info" | "debug")), Some(message)) => {
                Entry { level: level.into(), message: message.into(), ..Entry::default() }
            }
            _ => Entry { message: line.into(), ..Entry::default() },
        }
    }

    /// The URL in a line about a listener.
    pub(crate) fn url(&self) -> Option<&str> {
        self.address.as_deref().or_else(|| self.message.split_once("listening on ")?.1.split(' ').next())
    }

    /// Whether a line about a listener is about the one of this name.
    pub(super) fn is_about(&self, name: &str) -> bool {
        match &self.listener {
            Some(listener) => listener == name,
            None => self.message.contains(&format!(" ({name})")) || self.message.contains(&format!(" ({name}, ")),
        }
    }

    pub(crate) fn event(&self) -> Event {
        let Entry { endpoint, listener, peer, reason, sequence, .. } = self;
        match (endpoint.is_some(), listener.is_some(), peer.is_some(), reason.is_some()) {
            _ if sequence.is_some() => Event::Input,
            (true, _, _, true) => Event::Left,
            (false, _, true, true) => Event::Refused,
            (false, true, false, true) => Event::Dropped,
            (true, true, true, false) if self.message.contains(" joined from ") => Event::Joined,
            (true, true, true, false) => Event::Connected,
            (true, false, true, false) => Event::NativeHello,
            _ => self.event_by_message(),
        }
    }

    fn event_by_message(&self) -> Event {
        let beginnings = [
            ("upcalld ", Event::Configuration),
            ("listening on ", Event::Listening),
            ("no longer listening on ", Event::NoLongerListening),
            ("ready", Event::Ready),
            ("holding inputs for #", Event::InputsHeld),
            ("no longer holding inputs for #", Event::PatienceExhausted),
            ("accepting paused ", Event::AcceptPauses),
            ("accepting connections again", Event::AcceptResumes),
            ("reloaded: ", Event::Reloaded),
            ("reload refused: ", Event::ReloadRefused),
            ("draining: ", Event::Draining),
            ("ended", Event::Ended),
            ("summary: ", Event::Summary),
        ];
        let words =
            [(" connected from ", Event::Connected), (" joined from ", Event::Joined), (" left: ", Event::Left)];
        if let Some((_, event)) =
            words.iter().find(|(words, _)| self.message.starts_with('#') && self.message.contains(words))
        {
            return *event;
        }
        let found = beginnings.iter().find(|(beginning, _)| self.message.starts_with(beginning));
        found.map_or(Event::Other, |(_, event)| *event)
    }
}

/// Which entries are meant: an event, and what its fields must be.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    event: Event,
    endpoint: Option<u64>,
    listener: Option<String>,
    reason: Option<String>,
    words: Option<String>,
}

impl From<Event> for Pattern {
    fn from(event: Event) -> Pattern {
        Pattern { event, endpoint: None, listener: None, reason: None, words: None }
    }
}

impl Event {
    pub(crate) fn endpoint(self, number: u64) -> Pattern {
        Pattern { endpoint: Some(number), ..self.into() }
    }

    pub(crate) fn listener(self, name: &str) -> Pattern {
        Pattern { listener: Some(name.into()), ..self.into() }
    }

    pub(crate) fn reason(self, name: &str) -> Pattern {
        Pattern { reason: Some(name.into()), ..self.into() }
    }

    /// Only entries whose message contains `words`: for what no field says.
    pub(crate) fn with(self, words: &str) -> Pattern {
        Pattern { words: Some(words.into()), ..self.into() }
    }
}

impl Pattern {
    pub(crate) fn reason(self, name: &str) -> Pattern {
        Pattern { reason: Some(name.into()), ..self }
    }

    pub(crate) fn matches(&self, entry: &Entry) -> bool {
        let field = |wanted: &Option<String>, field: &Option<String>| wanted.is_none() || wanted == field;
        entry.event() == self.event
            && (self.endpoint.is_none() || self.endpoint == entry.endpoint)
            && field(&self.listener, &entry.listener)
            && field(&self.reason, &entry.reason)
            && self.words.as_ref().is_none_or(|words| entry.message.contains(words))
    }
}

/// Everything that the daemon has logged so far.
pub(crate) struct Log {
    output: Output,
    parsed: Mutex<Parsed>,
}

#[derive(Default)]
struct Parsed {
    entries: Vec<Entry>,
    /// How many bytes of the output the entries are.
    length: usize,
}

impl Log {
    pub(crate) fn of(output: Output) -> Log {
        Log { output, parsed: Mutex::default() }
    }

    /// The raw lines, for tests about how they are written.
    pub(crate) fn raw(&self) -> &Output {
        &self.output
    }

    /// Parses what has been written since the last call.
    fn parse(&self) -> MutexGuard<'_, Parsed> {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        let from = parsed.length;
        let new = self.output.bytes_from(from);
        let whole = memchr::memrchr(b'\n', &new).map_or(0, |end| end + 1);
        let lines = String::from_utf8_lossy(&new[..whole]);
        parsed.entries.extend(lines.lines().map(Entry::parse));
        parsed.length += whole;
        parsed
    }

    pub(crate) fn all(&self) -> Vec<Entry> {
        self.parse().entries.clone()
    }

    pub(crate) fn entries(&self, pattern: impl Into<Pattern>) -> Vec<Entry> {
        let pattern = pattern.into();
        self.parse().entries.iter().filter(|entry| pattern.matches(entry)).cloned().collect()
    }

    pub(crate) fn count(&self, pattern: impl Into<Pattern>) -> usize {
        let pattern = pattern.into();
        self.parse().entries.iter().filter(|entry| pattern.matches(entry)).count()
    }

    /// How many entries have a message that contains `words`, whatever they are about.
    pub(crate) fn count_words(&self, words: &str) -> usize {
        self.parse().entries.iter().filter(|entry| entry.message.contains(words)).count()
    }

    /// Waits until `times` entries match.
    #[track_caller]
    pub(crate) fn wait(&self, pattern: impl Into<Pattern>, times: usize) {
        let pattern = pattern.into();
        let (mut seen, mut found) = (0, 0);
        let done = self.wait_until(|entries| {
            found += entries[seen..].iter().filter(|entry| pattern.matches(entry)).count();
            seen = entries.len();
            found >= times
        });
        assert!(done, "{pattern:?} is in the log {found} times, not {times}");
    }

    /// Waits for a message that contains `words`, whatever it is about.
    #[track_caller]
    pub(crate) fn wait_words(&self, words: &str) {
        let done = self.wait_until(|entries| entries.iter().any(|entry| entry.message.contains(words)));
        assert!(done, "{words:?} is not in the log");
    }

    fn wait_until(&self, mut is_done: impl FnMut(&[Entry]) -> bool) -> bool {
        let end = Instant::now() + DEADLINE;
        loop {
            let length = {
                let parsed = self.parse();
                if is_done(&parsed.entries) {
                    return true;
                }
                parsed.length
            };
            if let ControlFlow::Break(()) = self.output.wait_line(length, end) {
                return false;
            }
        }
    }
}
