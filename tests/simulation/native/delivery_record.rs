//! What an application was told: upcalls and gaps, in one log after the other; and what it must have been told.

use std::hash::{Hash, Hasher};

use super::reference::Truth;
use crate::simulation::Input;

/// What was told of one log.
#[derive(Debug, Clone)]
struct Chapter {
    log: usize,
    /// The sessions that were in charge, each from a sequence on.
    sessions: Vec<(u64, u64)>,
    /// Sequences that came (false) or will not (true): first and last.
    told: Vec<(u64, u64, bool)>,
    last: u64,
}

/// What an application was told, whatever became of its connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    chapters: Vec<Chapter>,
}

impl Ledger {
    /// A session begins, or goes on.
    pub(crate) fn welcomed(&mut self, log: usize, number: u64, start: u64, resumed: bool) {
        let chapter = self.chapters.last_mut().filter(|chapter| chapter.log == log);
        match chapter {
            Some(chapter) if resumed => {
                assert_eq!(chapter.sessions.last().map(|(_, number)| *number), Some(number), "another's session");
                assert!(start <= chapter.last + 1, "resumed further ahead than it was");
            }
            Some(chapter) => chapter.sessions.push((start.max(chapter.last + 1), number)),
            None => {
                assert!(!resumed, "nothing of that log was heard before");
                let sessions = vec![(start, number)];
                self.chapters.push(Chapter { log, sessions, told: Vec::new(), last: start - 1 });
            }
        }
    }

    /// Sequences came, or will not.
    pub(crate) fn tell(&mut self, first: u64, last: u64, gap: bool) {
        let chapter = self.chapters.last_mut().expect("nothing comes before the welcome");
        assert!(first <= last && first > chapter.last, "{first}–{last} after {} (gap: {gap})", chapter.last);
        chapter.told.push((first, last, gap));
        chapter.last = last;
    }

    /// The log that is being read, and the session.
    pub(crate) fn present(&self) -> Option<(usize, u64)> {
        let chapter = self.chapters.last()?;
        Some((chapter.log, chapter.sessions.last()?.1))
    }

    /// Checks everything up to what was told last; returns the first sequence behind that was due too.
    pub(crate) fn check(&self, truth: &Truth, inputs: &[Input]) -> Option<u64> {
        let mut missing = None;
        for (index, chapter) in self.chapters.iter().enumerate() {
            let mut told = chapter.told.iter().peekable();
            for (input, sequence) in truth.inputs(chapter.log, inputs).iter().zip(1u64..) {
                while told.next_if(|(_, last, _)| *last < sequence).is_some() {}
                let is_told = told.peek().filter(|(first, ..)| *first <= sequence).map(|(_, _, gap)| *gap);
                let in_charge = chapter.sessions.iter().rev().find(|(from, _)| *from <= sequence);
                let due = in_charge.is_some_and(|(_, number)| truth.is_due(chapter.log, *number, sequence, input));
                match is_told {
                    Some(false) if !due => {
                        let why = truth.describe(chapter.log, &chapter.sessions, input);
                        panic!("{sequence} came and was not due: {why} {chapter:?}")
                    }
                    None if due && sequence <= chapter.last => {
                        let why = truth.describe(chapter.log, &chapter.sessions, input);
                        panic!("{sequence} is missing: {why} {chapter:?}")
                    }
                    None if due && index + 1 == self.chapters.len() => {
                        missing.get_or_insert(sequence);
                    }
                    _ => {}
                }
            }
        }
        missing
    }

    pub(crate) fn hash(&self, hasher: &mut impl Hasher) {
        for chapter in &self.chapters {
            (chapter.log, &chapter.sessions, &chapter.told).hash(hasher);
        }
    }
}
