//! What the daemon has counted, as its summary says on SIGUSR1. The summary is text for people; only this file reads
//! it.

use nix::sys::signal::Signal;

use super::log::Pattern;
use super::{Daemon, Event};

/// The last line of a summary that every daemon writes.
const LAST: &str = "summary: left: ";

impl Daemon {
    /// Has the daemon log a summary; the line that contains `words`.
    #[track_caller]
    pub(crate) fn summary(&self, words: &str) -> String {
        let before = self.count(Event::Summary.with(LAST));
        self.signal(Signal::SIGUSR1);
        self.wait_count(Event::Summary.with(LAST), before + 1);
        // The lines are written together, so the newest one with these words is of this summary.
        self.wait(Event::Summary.with(words));
        self.log().entries(Event::Summary.with(words)).pop().expect("it is there").message
    }

    /// How often the daemon has logged this by now. What it did before it takes a signal is in the log before its
    /// answer.
    #[track_caller]
    pub(crate) fn count_now(&self, pattern: impl Into<Pattern>) -> usize {
        self.summary(LAST);
        self.count(pattern)
    }

    /// The number behind a word of the summary: of `too_large 1`, 1. 0 if the word is not there.
    #[track_caller]
    pub(crate) fn counted(&self, word: &str) -> usize {
        let line = self.summary(LAST);
        let mut words = line.split([' ', ',', ';']);
        words.find(|found| *found == word).and_then(|_| words.next()?.parse().ok()).unwrap_or(0)
    }

    /// How many inputs the daemon has counted.
    #[track_caller]
    pub(crate) fn counted_inputs(&self) -> u64 {
        const WORDS: &str = "registered since the start; ";
        let line = self.summary(WORDS);
        let rest = line.split(WORDS).nth(1).expect("it is there");
        rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Everything that the daemon has counted, for a comparison with a later time.
    #[track_caller]
    pub(crate) fn all_counted(&self) -> String {
        let line = self.summary(LAST);
        format!("{line}; {} inputs", self.counted_inputs())
    }
}
