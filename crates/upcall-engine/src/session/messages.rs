//! The messages of a session, by their ids: which are new, and what the answer to a repeated one is.

use std::collections::VecDeque;

use upcall_wire::frame::{Code, Receipt};

/// How many receipts a session keeps, for messages that are repeated.
const RECEIPTS: usize = 64;

/// The messages of a session.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    last: u64,
    /// The outcomes of the last messages, the latest at the back.
    outcomes: VecDeque<MessageOutcome>,
}

#[derive(Debug, Clone, Copy)]
enum MessageOutcome {
    Accepted { sequence: u64, due: u32 },
    Refused(Code),
}

/// What is known about a message by its id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MessageStatus {
    New,
    /// It was accepted before.
    Repeat(Receipt),
    /// It was refused before, for this reason.
    Refused(Code),
    /// It was accepted or refused before, and its receipt is no longer kept.
    Stale,
    /// Messages before it are missing.
    Ahead,
}

impl Messages {
    /// The id of the last message; 0 before the first.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn status(&self, id: u64) -> MessageStatus {
        match self.last.checked_sub(id) {
            None if id == self.last + 1 => MessageStatus::New,
            None => MessageStatus::Ahead,
            Some(age) => {
                let age = usize::try_from(age).ok();
                let index = age.and_then(|age| self.outcomes.len().checked_sub(age.checked_add(1)?));
                match index.and_then(|index| self.outcomes.get(index).copied()) {
                    Some(MessageOutcome::Accepted { sequence, due }) => {
                        MessageStatus::Repeat(Receipt { id, sequence, due, repeat: true })
                    }
                    Some(MessageOutcome::Refused(code)) => MessageStatus::Refused(code),
                    None => MessageStatus::Stale,
                }
            }
        }
    }

    /// Records that the next message was accepted.
    pub(crate) fn accept(&mut self, sequence: u64, due: u32) -> Receipt {
        self.record(MessageOutcome::Accepted { sequence, due });
        Receipt { id: self.last, sequence, due, repeat: false }
    }

    /// Records that the next `count` messages were accepted. Their sequences count up from `first`.
    pub(crate) fn accept_run(&mut self, first: u64, count: u64, due: u32) {
        let kept = count.min(RECEIPTS as u64);
        let forgotten = (self.outcomes.len() + kept as usize).saturating_sub(RECEIPTS);
        self.outcomes.drain(..forgotten);
        let sequences = first + count - kept..first + count;
        self.outcomes.extend(sequences.map(|sequence| MessageOutcome::Accepted { sequence, due }));
        self.last += count;
    }

    /// Records that a message was refused permanently, if it is the next one. Its id is used up anyway, so that it does
    /// not block the messages after it.
    pub(crate) fn refuse(&mut self, id: u64, code: Code) {
        if self.status(id) == MessageStatus::New {
            self.record(MessageOutcome::Refused(code));
        }
    }

    fn record(&mut self, outcome: MessageOutcome) {
        self.last += 1;
        if self.outcomes.len() == RECEIPTS {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_new_once() {
        let mut messages = Messages::default();
        assert_eq!(messages.status(0), MessageStatus::Stale);
        assert_eq!(messages.status(2), MessageStatus::Ahead);
        for id in 1..=100 {
            assert_eq!(messages.status(id), MessageStatus::New);
            messages.accept(id * 10, 3);
        }
        assert_eq!(messages.status(36), MessageStatus::Stale);
        for id in 37..=100 {
            let receipt = Receipt { id, sequence: id * 10, due: 3, repeat: true };
            assert_eq!(messages.status(id), MessageStatus::Repeat(receipt));
        }
        assert_eq!(messages.status(102), MessageStatus::Ahead);
        messages.refuse(103, Code::TooLarge);
        messages.refuse(101, Code::TooLarge);
        assert_eq!(messages.status(101), MessageStatus::Refused(Code::TooLarge));
        assert_eq!(messages.status(102), MessageStatus::New);
        assert_eq!(messages.status(u64::MAX), MessageStatus::Ahead);
    }

    #[test]
    fn a_run_of_messages_is_recorded_like_each_of_them() {
        for (before, count) in [(0, 0), (0, 1), (3, 5), (0, 64), (1, 64), (63, 2), (64, 1), (10, 200), (70, 63)] {
            let (mut run, mut single) = (Messages::default(), Messages::default());
            for messages in [&mut run, &mut single] {
                for id in 0..before {
                    messages.accept(id + 5, 1);
                }
            }
            run.accept_run(1_000, count, 3);
            for nth in 0..count {
                single.accept(1_000 + nth, 3);
            }
            assert_eq!(run.last(), single.last());
            assert!((0..before + count + 3).all(|id| run.status(id) == single.status(id)), "{count} after {before}");
            assert_eq!(run.outcomes.len(), single.outcomes.len());
        }
    }
}
