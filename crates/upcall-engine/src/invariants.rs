//! The invariants between any two calls, and queries that only tests need. Tests and simulations check the invariants
//! after every step.

use std::collections::BTreeSet;

use crate::deadlines::Deadline;
use crate::id::EndpointId;
use crate::log::Rendition;
use crate::log::reading::Cursor;
use crate::registry::endpoint::{Delivery, DetectedProtocol, Endpoint};
use crate::slow::{Lag, Parking};
use crate::{Engine, Patience};

impl Engine {
    /// Panics if an invariant does not hold.
    pub fn check_invariants(&self) {
        self.log.check_invariants();
        self.registry.check_invariants();
        self.detection.check_invariants(&self.registry);
        self.deadlines.check_invariants();
        let mut lagging = 0;
        for (id, endpoint) in self.registry.iter() {
            self.check_endpoint(id, endpoint);
            lagging += usize::from(lag_of(endpoint) != Lag::None);
        }
        assert_eq!(lagging, self.laggards.iter().count());
        for (lag, position, id) in self.laggards.iter() {
            let endpoint = self.registry.get(id).expect("only registered endpoints lag");
            assert_eq!(endpoint.slow.as_ref().map(|slow| (slow.lag(), slow.position())), Some((lag, position)));
            if lag == Lag::CatchingUp {
                assert!(endpoint.may_hold_inputs() && self.settings.patience != Patience::Forever);
                let near = self.log.head() - position <= self.settings.max_behind / 4 && !self.is_in_danger(id);
                assert!(!near, "#{} has caught up", endpoint.number);
            }
        }
        let datagrams = self.registry.iter().filter(|(_, endpoint)| endpoint.transport.is_datagram());
        let leases: BTreeSet<EndpointId> = self.leases.check_invariants().collect();
        assert_eq!(leases, datagrams.map(|(id, _)| id).collect(), "each datagram endpoint has a lease");
        assert_eq!(self.laggards.is_held(), self.laggards.holding() > 0);
    }

    fn check_endpoint(&self, id: EndpointId, endpoint: &Endpoint) {
        let (lag, number) = (lag_of(endpoint), endpoint.number);
        assert_eq!(endpoint.native.is_some(), endpoint.protocol == DetectedProtocol::Native, "#{number}");
        if endpoint.delivery != Delivery::WriteClosed {
            let is_undecided = endpoint.protocol == DetectedProtocol::Undecided;
            assert_eq!(endpoint.delivery == Delivery::Withheld, is_undecided, "#{number}");
        }
        match endpoint.delivery {
            Delivery::CaughtUp => {
                assert_eq!(lag, Lag::None, "#{number} is caught up");
                assert!(endpoint.outbox.is_none() && endpoint.leaving.is_none(), "#{number} should be gone");
            }
            Delivery::Withheld => {}
            Delivery::Unacknowledged => {
                assert!(endpoint.is_native());
                assert_eq!(lag == Lag::None, endpoint.oldest_needed().is_none(), "#{number}");
            }
            Delivery::Ready => assert!(self.ready.contains(&id), "#{number} is ready and not in the list"),
            Delivery::Blocked => {
                assert!(lag != Lag::None || endpoint.outbox.is_some(), "#{number} is blocked with nothing to send")
            }
            Delivery::WriteClosed => {
                assert!(!endpoint.receives && lag == Lag::None, "#{number} is write-closed");
            }
        }
        if matches!(endpoint.delivery, Delivery::Ready | Delivery::Blocked | Delivery::Withheld)
            && endpoint.cursor.sequence < endpoint.until
        {
            let oldest = self.log.oldest().of(endpoint.rendition());
            assert!(endpoint.floor().sequence >= oldest, "#{number} reads what is gone");
        }
        assert!(endpoint.leaving.is_none() || !endpoint.receives);
        if let Some(deadline) = endpoint.slow.as_ref().and_then(|slow| slow.deadline) {
            assert_eq!(lag, Lag::HoldsInputs);
            assert!(self.deadlines.contains(deadline, id, Deadline::Patience));
        }
        if let Some(Parking::Until(deadline)) = endpoint.slow.as_ref().map(|slow| slow.parking) {
            assert!(matches!(lag, Lag::CatchingUp | Lag::HoldsInputs | Lag::Unprotected));
            assert!(self.deadlines.contains(deadline, id, Deadline::Parked));
        }
    }

    /// The first sequence that an endpoint still needs, and how far it is behind with it: a distance in the log, in
    /// bytes. For tests.
    #[doc(hidden)]
    pub fn missing(&self, id: EndpointId) -> Option<(u64, u64)> {
        let endpoint = self.registry.get(id)?;
        let next = Cursor::at(self.log.next());
        let floor = match endpoint.delivery {
            Delivery::CaughtUp => next,
            _ => endpoint.oldest_needed().unwrap_or(next),
        };
        Some((floor.sequence, self.log.head() - self.log.position(floor)))
    }

    /// The first sequence that the log still holds for native endpoints. For tests.
    #[doc(hidden)]
    pub fn oldest_sequence(&self) -> u64 {
        self.log.oldest().of(Rendition::Frames)
    }

    /// The filters of a native endpoint, and the first sequence for which they are in force. No filters: everything is
    /// due. For tests.
    #[doc(hidden)]
    pub fn filters_in_force(&self, id: EndpointId) -> Option<(u64, Option<Vec<&str>>)> {
        let session = &self.registry.get(id)?.native()?.session;
        Some((session.filters_since, session.filters.as_deref().map(|filters| filters.iter().collect())))
    }
}

fn lag_of(endpoint: &Endpoint) -> Lag {
    endpoint.slow.as_ref().map_or(Lag::None, |slow| slow.lag())
}
