//! What must hold between any two calls; checked by tests and simulations after every step.

use std::collections::BTreeSet;

use crate::id::EndpointId;
use crate::registry::endpoint::{Delivery, Protocol};
use crate::slow::Lag;
use crate::{Deadline, Engine, Patience};

impl Engine {
    /// Panics where something does not hold that always must.
    pub fn check_invariants(&self) {
        self.log.check_invariants();
        self.registry.check_invariants();
        self.undecided.check_invariants(&self.registry);
        self.awaiting_hello.check_invariants(&self.registry);
        let mut lagging = 0;
        for (id, endpoint) in self.registry.iter() {
            let lag = endpoint.slow.as_ref().map_or(Lag::None, |slow| slow.lag());
            let number = endpoint.number;
            match endpoint.delivery {
                Delivery::CaughtUp => {
                    assert_eq!(lag, Lag::None, "#{number} is caught up");
                    assert!(endpoint.outbox.is_none() && endpoint.leaving.is_none(), "#{number} should be gone");
                }
                Delivery::Undecided => assert_eq!(endpoint.protocol, Protocol::Undecided, "#{number}"),
                Delivery::Unacknowledged => {
                    assert!(endpoint.is_native());
                    assert_eq!(lag == Lag::None, endpoint.oldest_needed().is_none(), "#{number}");
                }
                Delivery::Ready => assert!(self.ready.contains(&id), "#{number} is ready and not on the list"),
                Delivery::Blocked => {
                    assert!(lag != Lag::None || endpoint.outbox.is_some(), "#{number} is blocked over nothing")
                }
                Delivery::WriteClosed => assert!(!endpoint.receives && lag == Lag::None, "#{number} is deaf"),
            }
            if matches!(endpoint.delivery, Delivery::Ready | Delivery::Blocked | Delivery::Undecided)
                && endpoint.cursor.sequence < endpoint.until
            {
                assert!(
                    endpoint.floor().sequence >= self.log.oldest().of(endpoint.rendition()),
                    "#{number} reads what is gone"
                );
            }
            assert!(endpoint.leaving.is_none() || !endpoint.receives);
            if let Some(deadline) = endpoint.slow.as_ref().and_then(|slow| slow.deadline) {
                assert_eq!(lag, Lag::HoldsInputs);
                assert!(self.deadlines.contains(&(deadline, id, Deadline::Patience)));
            }
            if let Some(deadline) = endpoint.slow.as_ref().and_then(|slow| slow.parked) {
                assert!(matches!(lag, Lag::CatchingUp | Lag::HoldsInputs | Lag::Unprotected));
                assert!(self.deadlines.contains(&(deadline, id, Deadline::Parked)));
            }
            lagging += usize::from(lag != Lag::None);
        }
        assert_eq!(lagging, self.laggards.iter().count());
        for (lag, position, id) in self.laggards.iter() {
            let endpoint = self.registry.get(id).expect("only the registered can lag");
            assert_eq!(endpoint.slow.as_ref().map(|slow| (slow.lag(), slow.position())), Some((lag, position)));
            if lag == Lag::CatchingUp {
                assert!(endpoint.is_patient() && self.settings.patience != Patience::Forever);
                let near = self.log.head() - position <= self.settings.max_behind / 4 && !self.is_in_danger(id);
                assert!(!near, "#{} has caught up", endpoint.number);
            }
        }
        let datagrams = self.registry.iter().filter(|(_, endpoint)| endpoint.transport.is_datagram());
        let leases: BTreeSet<EndpointId> = self.leases.check_invariants().collect();
        assert_eq!(leases, datagrams.map(|(id, _)| id).collect(), "each datagram endpoint has a lease");
        assert_eq!(self.held_since.is_some(), self.laggards.waited() > 0);
        for (id, unfinished) in &self.unfinished {
            assert!(self.deadlines.contains(&(unfinished.deadline, *id, Deadline::Message)));
        }
    }
}
