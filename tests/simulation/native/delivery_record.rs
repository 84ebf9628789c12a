//! The record of what an application received: upcalls and gaps, one log after the other. It is checked against the
//! reference.

use std::hash::{Hash, Hasher};

use super::reference::Reference;
use crate::input::LoggedInput;

/// What was delivered for a range of sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Delivered {
    Upcall,
    Gap,
}

/// What was received of one log.
#[derive(Debug, Clone)]
struct LogSection {
    log: usize,
    /// The numbers of the sessions that received, each with its first sequence.
    sessions: Vec<(u64, u64)>,
    /// First and last sequence, in order.
    delivered: Vec<(u64, u64, Delivered)>,
    /// The last sequence that was delivered.
    last: u64,
}

/// What an application received, across all connections, sessions and programs.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeliveryRecord {
    sections: Vec<LogSection>,
}

impl DeliveryRecord {
    /// A session begins or is resumed.
    pub(crate) fn welcomed(&mut self, log: usize, number: u64, start: u64, resumed: bool) {
        let section = self.sections.last_mut().filter(|section| section.log == log);
        match section {
            Some(section) if resumed => {
                assert_eq!(section.sessions.last().map(|(_, number)| *number), Some(number), "another session");
                assert!(start <= section.last + 1, "resumed beyond what was received");
            }
            Some(section) => section.sessions.push((start.max(section.last + 1), number)),
            None => {
                assert!(!resumed, "a session was resumed in a log from which nothing was received");
                let sessions = vec![(start, number)];
                self.sections.push(LogSection { log, sessions, delivered: Vec::new(), last: start - 1 });
            }
        }
    }

    /// An upcall was received.
    pub(crate) fn upcall(&mut self, sequence: u64) {
        self.add(sequence, sequence, Delivered::Upcall);
    }

    /// A gap was announced.
    pub(crate) fn gap(&mut self, first: u64, last: u64) {
        self.add(first, last, Delivered::Gap);
    }

    fn add(&mut self, first: u64, last: u64, delivery: Delivered) {
        let section = self.sections.last_mut().expect("nothing comes before WELCOME");
        assert!(first <= last && first > section.last, "{delivery:?} {first}–{last} after {}", section.last);
        section.delivered.push((first, last, delivery));
        section.last = last;
    }

    /// The present log and session.
    pub(crate) fn current(&self) -> Option<(usize, u64)> {
        let section = self.sections.last()?;
        Some((section.log, section.sessions.last()?.1))
    }

    /// Checks everything up to the last delivery. Returns the first later sequence that is due, too.
    pub(crate) fn check(&self, reference: &Reference, inputs: &[LoggedInput]) -> Option<u64> {
        let mut missing = None;
        for (index, section) in self.sections.iter().enumerate() {
            let mut delivered = section.delivered.iter().peekable();
            for (input, sequence) in reference.inputs(section.log, inputs).iter().zip(1u64..) {
                while delivered.next_if(|(_, last, _)| *last < sequence).is_some() {}
                let delivery =
                    delivered.peek().filter(|(first, ..)| *first <= sequence).map(|(.., delivery)| *delivery);
                let session = section.sessions.iter().rev().find(|(from, _)| *from <= sequence);
                let due = session.is_some_and(|(_, number)| reference.is_due(section.log, *number, sequence, input));
                match delivery {
                    Some(Delivered::Upcall) if !due => {
                        let why = reference.describe(section.log, &section.sessions, input);
                        panic!("{sequence} was received and not due: {why} {section:?}")
                    }
                    None if due && sequence <= section.last => {
                        let why = reference.describe(section.log, &section.sessions, input);
                        panic!("{sequence} is missing: {why} {section:?}")
                    }
                    None if due && index + 1 == self.sections.len() => {
                        missing.get_or_insert(sequence);
                    }
                    _ => {}
                }
            }
        }
        missing
    }

    pub(crate) fn hash(&self, hasher: &mut impl Hasher) {
        for section in &self.sections {
            (section.log, &section.sessions, &section.delivered).hash(hasher);
        }
    }
}
