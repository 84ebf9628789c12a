//! What must hold between any two calls; checked by tests and simulations after every step.

use super::endpoint::Delivery;
use super::slow::Class;
use super::{Deadline, Engine};

impl Engine {
    /// Panics where something does not hold that always must.
    pub fn check_invariants(&self) {
        self.log.check_invariants();
        self.registry.check_invariants();
        let mut lagging = 0;
        for (id, endpoint) in self.registry.iter() {
            let class = endpoint.slow.as_ref().map_or(Class::No, |slow| slow.class());
            let number = endpoint.number;
            match endpoint.delivery {
                Delivery::CaughtUp => {
                    assert_eq!(class, Class::No, "#{number} is caught up");
                    assert!(endpoint.outbox.is_none() && endpoint.leaving.is_none(), "#{number} should be gone");
                }
                Delivery::Undecided => assert!(self.undecided.contains(&(endpoint.cursor.sequence, id))),
                Delivery::Unacknowledged => {
                    assert!(endpoint.is_native());
                    assert_eq!(class == Class::No, endpoint.needs_nothing(), "#{number}");
                }
                Delivery::Ready => assert!(self.ready.contains(&id), "#{number} is ready and not on the list"),
                Delivery::Blocked => {
                    assert!(class != Class::No || endpoint.outbox.is_some(), "#{number} is blocked over nothing")
                }
                Delivery::Deaf => assert!(!endpoint.receives && class == Class::No, "#{number} is deaf"),
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
                assert_eq!(class, Class::Waited);
                assert!(self.deadlines.contains(&(deadline, id, Deadline::Patience)));
            }
            if let Some(deadline) = endpoint.slow.as_ref().and_then(|slow| slow.parked) {
                assert!(matches!(class, Class::Waited | Class::Unwaited));
                assert!(self.deadlines.contains(&(deadline, id, Deadline::Parked)));
            }
            lagging += usize::from(class != Class::No);
        }
        assert_eq!(lagging, self.laggards.iter().count());
        for (class, position, id) in self.laggards.iter() {
            let endpoint = self.registry.get(id).expect("only the registered can lag");
            assert_eq!(endpoint.slow.as_ref().map(|slow| (slow.class(), slow.position())), Some((class, position)));
        }
        let leases = self.registry.iter().filter_map(|(id, endpoint)| Some((endpoint.lease.as_ref()?.entered, id)));
        assert_eq!(self.leases, leases.collect(), "each lease is entered once");
        assert_eq!(self.held_since.is_some(), self.laggards.waited() > 0);
        for (id, unfinished) in &self.unfinished {
            assert!(self.deadlines.contains(&(unfinished.deadline, *id, Deadline::Message)));
        }
    }
}
