//! The deadlines of endpoints, in the order in which they are due. This module does not know what happens when they are
//! due.
//!
//! Leases and detached sessions have tables of their own, because they use another clock and another key.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::id::EndpointId;
use crate::time::Time;

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deadline {
    /// An unfinished message must be complete.
    Message,
    /// The patience of a slow endpoint is used up, unless it has read something in the meantime.
    Patience,
    /// An endpoint that is about to leave must have read everything.
    Farewell,
    /// An endpoint whose inputs are parked must have read something.
    Parked,
    /// The recovery of acknowledged delivery is due.
    Recovery,
}

/// A message whose end has not arrived yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnfinishedMessage {
    pub(crate) deadline: Time,
    /// How long inputs had been held in total when the message began. While inputs are held, the rest of it is not
    /// read.
    pub(crate) held: Duration,
}

/// All deadlines of endpoints.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    entries: BTreeSet<(Time, EndpointId, Deadline)>,
    /// Each has an entry in `entries`.
    messages: HashMap<EndpointId, UnfinishedMessage>,
}

impl Deadlines {
    /// Sets a deadline. The caller remembers its time, to be able to cancel it.
    pub(crate) fn set(&mut self, at: Time, id: EndpointId, deadline: Deadline) {
        self.entries.insert((at, id, deadline));
    }

    /// Cancels a deadline.
    pub(crate) fn cancel(&mut self, at: Time, id: EndpointId, deadline: Deadline) {
        self.entries.remove(&(at, id, deadline));
    }

    /// Removes the first deadline that is due by `now`, and returns it.
    pub(crate) fn due(&mut self, now: Time) -> Option<(EndpointId, Deadline)> {
        let (at, id, deadline) = self.entries.first().copied()?;
        if at > now {
            return None;
        }
        self.entries.pop_first();
        Some((id, deadline))
    }

    /// When the first deadline is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.entries.first().map(|(at, ..)| *at)
    }

    /// An endpoint has an unfinished message. An earlier deadline for it must already be over.
    pub(crate) fn set_message(&mut self, id: EndpointId, message: UnfinishedMessage) {
        self.messages.insert(id, message);
        self.set(message.deadline, id, Deadline::Message);
    }

    /// The unfinished message of an endpoint.
    pub(crate) fn message(&self, id: EndpointId) -> Option<UnfinishedMessage> {
        self.messages.get(&id).copied()
    }

    /// Forgets the unfinished message of an endpoint, if it has one.
    pub(crate) fn cancel_message(&mut self, id: EndpointId) {
        if !self.messages.is_empty()
            && let Some(UnfinishedMessage { deadline, .. }) = self.messages.remove(&id)
        {
            self.cancel(deadline, id, Deadline::Message);
        }
    }

    pub(crate) fn contains(&self, at: Time, id: EndpointId, deadline: Deadline) -> bool {
        self.entries.contains(&(at, id, deadline))
    }

    /// Panics if an invariant does not hold.
    pub(crate) fn check_invariants(&self) {
        for (id, message) in &self.messages {
            assert!(self.contains(message.deadline, *id, Deadline::Message));
        }
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    #[test]
    fn deadlines_are_due_in_order_unless_cancelled() {
        let mut ids: SlotMap<EndpointId, ()> = SlotMap::with_key();
        let (first, second) = (ids.insert(()), ids.insert(()));
        let mut deadlines = Deadlines::default();
        deadlines.set(Time(30), first, Deadline::Farewell);
        deadlines.set(Time(10), second, Deadline::Parked);
        deadlines.set(Time(20), second, Deadline::Patience);
        deadlines.set_message(first, UnfinishedMessage { deadline: Time(5), held: Duration::ZERO });
        deadlines.cancel(Time(20), second, Deadline::Patience);
        deadlines.cancel_message(first);
        deadlines.check_invariants();
        assert!(deadlines.message(first).is_none());
        assert_eq!(deadlines.next(), Some(Time(10)));
        assert_eq!(deadlines.due(Time(9)), None);
        assert_eq!(deadlines.due(Time(30)), Some((second, Deadline::Parked)));
        assert_eq!(deadlines.due(Time(30)), Some((first, Deadline::Farewell)));
        assert_eq!(deadlines.due(Time(30)), None);
    }
}
