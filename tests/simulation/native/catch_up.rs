//! Those who begin behind: nobody waits for them before they have caught up, and nothing but the end of the log cuts them off.

use std::collections::BTreeMap;

use upcall_engine::{EndpointId, Patience};
use upcall_wire::reason::Reason;

use crate::simulation::{MAX_BEHIND, World};

/// Those who have begun behind, and have not caught up yet: by number, with the first sequence that each has yet to get, and the
/// next one of the log.
pub(crate) type Late = BTreeMap<u64, (EndpointId, u64, u64)>;

impl World {
    /// An endpoint has been welcomed.
    pub(crate) fn may_be_late(&mut self, id: EndpointId, number: u64) {
        self.natives.late.remove(&number);
        let (first, behind) = self.engine.missing(id).unwrap();
        if behind > MAX_BEHIND / 4 && self.settings.patience != Patience::Forever {
            self.natives.late.insert(number, (id, first, self.engine.next_sequence()));
            self.natives.figures.late += 1;
        }
    }

    /// Takes note of how far those have come who began behind.
    pub(crate) fn look_at_the_late(&mut self) {
        let (engine, figures) = (&self.engine, &mut self.natives.figures);
        self.natives.late.retain(|_, (id, first, head)| {
            let Some((next, behind)) = engine.missing(*id) else { return false };
            if engine.endpoint(*id).is_some_and(|endpoint| endpoint.leaving() == Some(Reason::SlowConsumer)) {
                assert!(
                    engine.oldest_sequence() > *first,
                    "one that began behind was cut off, and the log still has it all"
                );
                figures.overrun += 1;
                return false;
            }
            // It has got, or skipped, all that there was when it was looked at last, though much may have come since.
            let caught_up = next >= *head;
            (*first, *head) = (next, engine.next_sequence());
            !caught_up && behind > MAX_BEHIND / 4
        });
    }

    /// Inputs wait for the endpoint of this number.
    pub(crate) fn waits_for(&self, number: u64) {
        // A connection that is superseded may be behind as well, by the same number.
        let alone = self.engine.endpoints().filter(|(_, endpoint)| endpoint.number == number).count() == 1;
        let late = alone && self.natives.late.contains_key(&number);
        assert!(!late, "inputs wait for #{number}, which began behind");
    }
}
