//! The reference that deliveries are checked against: the inputs of every log, and the sessions in it with the
//! filters in force at each sequence.

use std::collections::{BTreeMap, BTreeSet};

use upcall_wire::topic::matches;

use crate::input::LoggedInput;

/// The filters of a session; `None` lets everything pass.
pub(crate) type ReferenceFilters = Option<BTreeSet<String>>;

/// A session as the daemon must have it.
#[derive(Debug)]
struct ReferenceSession {
    /// The first sequence that is due to it.
    start: u64,
    receives: bool,
    /// Filters, each with the first sequence for which they are in force.
    filters: Vec<(u64, ReferenceFilters)>,
}

/// The log of one daemon.
#[derive(Default)]
struct ReferenceLog {
    /// `None` until the daemon has welcomed a client.
    id: Option<u64>,
    /// Empty while the daemon runs: the simulation has the inputs then.
    inputs: Vec<LoggedInput>,
    /// By number.
    sessions: BTreeMap<u64, ReferenceSession>,
}

/// The logs of all daemons, with the current one at the end.
pub(crate) struct Reference {
    logs: Vec<ReferenceLog>,
}

impl Default for Reference {
    fn default() -> Reference {
        Reference { logs: vec![ReferenceLog::default()] }
    }
}

impl Reference {
    fn log(&mut self) -> &mut ReferenceLog {
        self.logs.last_mut().unwrap()
    }

    /// A WELCOME has named the log of the current daemon.
    pub(crate) fn set_log_id(&mut self, id: u64) {
        assert_eq!(*self.log().id.get_or_insert(id), id, "a daemon has one log");
    }

    /// The index of the log with this id.
    pub(crate) fn find(&self, id: u64) -> usize {
        self.logs.iter().position(|log| log.id == Some(id)).expect("a client knows only logs that exist")
    }

    fn is_last(&self, log: usize) -> bool {
        log + 1 == self.logs.len()
    }

    /// A new daemon starts; `inputs` are those of the previous one.
    pub(crate) fn next_log(&mut self, inputs: Vec<LoggedInput>) {
        self.log().inputs = inputs;
        self.logs.push(ReferenceLog::default());
    }

    /// A session begins.
    pub(crate) fn add_session(&mut self, number: u64, start: u64, receives: bool, filters: ReferenceFilters) {
        let session = ReferenceSession { start, receives, filters: vec![(start, filters)] };
        assert!(self.log().sessions.insert(number, session).is_none(), "#{number} twice");
    }

    /// The filters of a session change from this sequence on.
    pub(crate) fn set_filters(&mut self, number: u64, from: u64, filters: ReferenceFilters) {
        let Some(session) = self.log().sessions.get_mut(&number) else { return };
        let (since, known) = session.filters.last().unwrap();
        if *known != filters {
            assert!(from >= *since, "filters for a sequence that others applied to before");
            session.filters.push((from, filters));
        }
    }

    /// The inputs of a log; those of the last log are `present`.
    pub(crate) fn inputs<'a>(&'a self, log: usize, present: &'a [LoggedInput]) -> &'a [LoggedInput] {
        if self.is_last(log) { present } else { &self.logs[log].inputs }
    }

    /// Whether an input was due to a session.
    pub(crate) fn is_due(&self, log: usize, number: u64, sequence: u64, input: &LoggedInput) -> bool {
        let session = &self.logs[log].sessions[&number];
        let in_force = session.filters.iter().rev().find(|(from, _)| *from <= sequence).map(|(_, filters)| filters);
        let passes = |filters: &BTreeSet<String>| filters.iter().any(|filter| matches(filter, &input.topic));
        session.receives
            && sequence >= session.start
            && input.is_for(number)
            && in_force.is_some_and(|filters| filters.as_ref().is_none_or(passes))
    }

    /// Whether the filters of a session changed to these at this sequence.
    pub(crate) fn has_filters(&self, log: usize, number: u64, from: u64, filters: &ReferenceFilters) -> bool {
        let mut known = self.logs[log].sessions[&number].filters.iter().map(|(from, filters)| (from, filters.clone()));
        known.any(|(since, mut known)| {
            // The client library begins a session with this filter if nothing is to be due to it.
            known.iter_mut().for_each(|filters| filters.retain(|filter| filter != "upcall-client/nothing"));
            (*since, &known) == (from, filters)
        })
    }

    /// An input and the sessions that it was or was not due to, for the message of a failed check.
    pub(crate) fn describe(&self, log: usize, sessions: &[(u64, u64)], input: &LoggedInput) -> String {
        let sessions: Vec<_> = sessions.iter().map(|(_, number)| (number, &self.logs[log].sessions[number])).collect();
        format!("{:?} from {} to {:?}; {sessions:?}", input.topic, input.source, input.audience)
    }

    /// Every input that was ever appended.
    pub(crate) fn all_inputs<'a>(&'a self, present: &'a [LoggedInput]) -> impl Iterator<Item = &'a LoggedInput> {
        self.logs.iter().flat_map(|log| &log.inputs).chain(present)
    }
}
