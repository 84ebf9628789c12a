//! Endpoints that start far behind (they resume a session, or request history): no input is held for them until they
//! have caught up, and they are disconnected only where the log overruns what they still need.

use upcall_engine::{EndpointId, Patience};
use upcall_wire::reason::Reason;

use super::state::CatchingUp;
use crate::simulation::{MAX_BEHIND, Simulation};

impl Simulation {
    /// Records where an endpoint that was just welcomed starts.
    pub(crate) fn note_start_position(&mut self, id: EndpointId, number: u64) {
        self.native.catching_up.remove(&number);
        let (next, behind) = self.engine.missing(id).unwrap();
        if behind > MAX_BEHIND / 4 && self.settings.patience != Patience::Forever {
            let head = self.engine.next_sequence();
            self.native.catching_up.insert(number, CatchingUp { endpoint: id, next, head });
            self.native.counts.started_behind += 1;
        }
    }

    /// Records the progress of the endpoints that started behind, and checks why they were disconnected.
    pub(crate) fn check_catching_up(&mut self) {
        let (engine, counts) = (&self.engine, &mut self.native.counts);
        self.native.catching_up.retain(|_, CatchingUp { endpoint, next, head }| {
            let Some((next_now, behind)) = engine.missing(*endpoint) else { return false };
            if engine.endpoint(*endpoint).is_some_and(|endpoint| endpoint.leaving() == Some(Reason::SlowConsumer)) {
                assert!(
                    engine.oldest_sequence() > *next,
                    "disconnected while catching up, and the log still has everything that it needs"
                );
                counts.overrun += 1;
                return false;
            }
            // It has received or skipped everything that the log held at the last check, however much was appended
            // since then.
            let caught_up = next_now >= *head;
            (*next, *head) = (next_now, engine.next_sequence());
            !caught_up && behind > MAX_BEHIND / 4
        });
    }

    /// Inputs are held because of the endpoint with this number: it must not be one that is catching up.
    pub(crate) fn check_inputs_held_for(&self, number: u64) {
        // A superseded connection may be behind too, and has the same number.
        let alone = self.engine.endpoints().filter(|(_, endpoint)| endpoint.number == number).count() == 1;
        let catching_up = alone && self.native.catching_up.contains_key(&number);
        assert!(!catching_up, "inputs are held for #{number}, which started behind");
    }
}
