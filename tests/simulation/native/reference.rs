//! What was really said and wanted: the inputs of every log, and the sessions in it with their filters by sequence.

use std::collections::{BTreeMap, BTreeSet};

use upcall_wire::topic::matches;

use crate::simulation::Input;

/// None: everything.
pub(crate) type Filters = Option<BTreeSet<String>>;

/// A session, as the daemon knows it.
#[derive(Debug)]
pub(crate) struct Session {
    start: u64,
    receives: bool,
    /// Which filters are in force from which sequence on.
    filters: Vec<(u64, Filters)>,
}

/// One daemon's.
#[derive(Default)]
pub(crate) struct Log {
    id: Option<u64>,
    /// Empty while the daemon lives: then the world has them.
    inputs: Vec<Input>,
    sessions: BTreeMap<u64, Session>,
}

/// Of all daemons, the last one's last.
pub(crate) struct Truth {
    logs: Vec<Log>,
}

impl Default for Truth {
    fn default() -> Truth {
        Truth { logs: vec![Log::default()] }
    }
}

impl Truth {
    fn log(&mut self) -> &mut Log {
        self.logs.last_mut().unwrap()
    }

    pub(crate) fn log_is(&mut self, id: u64) {
        assert_eq!(*self.log().id.get_or_insert(id), id, "a daemon has one log");
    }

    /// Which log has this id.
    pub(crate) fn find(&self, id: u64) -> usize {
        self.logs.iter().position(|log| log.id == Some(id)).expect("clients know only logs that there were")
    }

    pub(crate) fn is_last(&self, log: usize) -> bool {
        log + 1 == self.logs.len()
    }

    pub(crate) fn next_log(&mut self, inputs: Vec<Input>) {
        self.log().inputs = inputs;
        self.logs.push(Log::default());
    }

    /// A session begins.
    pub(crate) fn session(&mut self, number: u64, start: u64, receives: bool, filters: Filters) {
        let session = Session { start, receives, filters: vec![(start, filters)] };
        assert!(self.log().sessions.insert(number, session).is_none(), "#{number} twice");
    }

    /// Filters are in force from a sequence on.
    pub(crate) fn filters(&mut self, number: u64, from: u64, filters: Filters) {
        let Some(session) = self.log().sessions.get_mut(&number) else { return };
        let (since, known) = session.filters.last().unwrap();
        if *known != filters {
            assert!(from >= *since, "filters for what was judged by others before");
            session.filters.push((from, filters));
        }
    }

    /// The inputs of a log; those of the last one are `present`.
    pub(crate) fn inputs<'a>(&'a self, log: usize, present: &'a [Input]) -> &'a [Input] {
        if self.is_last(log) { present } else { &self.logs[log].inputs }
    }

    /// Whether an input was due to a session.
    pub(crate) fn is_due(&self, log: usize, number: u64, sequence: u64, input: &Input) -> bool {
        let session = &self.logs[log].sessions[&number];
        let in_force = session.filters.iter().rev().find(|(from, _)| *from <= sequence).map(|(_, filters)| filters);
        let passes = |filters: &BTreeSet<String>| filters.iter().any(|filter| matches(filter, &input.topic));
        session.receives
            && sequence >= session.start
            && input.is_for(number)
            && in_force.is_some_and(|filters| filters.as_ref().is_none_or(passes))
    }

    /// Whether these filters are in force in a session from this sequence on.
    pub(crate) fn agrees(&self, log: usize, number: u64, from: u64, filters: &Filters) -> bool {
        let mut known = self.logs[log].sessions[&number].filters.iter().map(|(from, filters)| (from, filters.clone()));
        known.any(|(since, mut known)| {
            // With this a session begins to which nothing is due.
            known.iter_mut().for_each(|filters| filters.retain(|filter| filter != "upcall-client/nothing"));
            (*since, &known) == (from, filters)
        })
    }

    /// For people: an input, and who should have judged it.
    pub(crate) fn describe(&self, log: usize, sessions: &[(u64, u64)], input: &Input) -> String {
        let sessions: Vec<_> = sessions.iter().map(|(_, number)| (number, &self.logs[log].sessions[number])).collect();
        format!("{:?} from {} to {:?}; {sessions:?}", input.topic, input.source, input.audience)
    }

    /// Every input that was ever appended.
    pub(crate) fn all<'a>(&'a self, present: &'a [Input]) -> impl Iterator<Item = &'a Input> {
        self.logs.iter().flat_map(|log| &log.inputs).chain(present)
    }
}
