//! Leases: how long datagram endpoints stay registered, on the clock that counts suspend. They have their own table,
//! because streams have no lease.

use std::collections::BTreeSet;
use std::hash::BuildHasherDefault;
use std::time::Duration;

use slotmap::SparseSecondaryMap;
use upcall_wire::reason::Reason;

use crate::id::{EndpointId, OwnIdHasher};
use crate::{Engine, Now, Time};

#[derive(Debug)]
struct Lease {
    until: Time,
    /// Its entry in `ends`: a renewal only moves `until`.
    entered: Time,
    /// How long inputs had been held in total when it was renewed. While they are held, no renewal is read.
    held: Duration,
}

/// All leases.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    leases: SparseSecondaryMap<EndpointId, Lease, BuildHasherDefault<OwnIdHasher>>,
    /// When each lease may end, one entry per lease. An entry that turns out to be early is entered again.
    ends: BTreeSet<(Time, EndpointId)>,
}

impl Leases {
    fn grant(&mut self, id: EndpointId, until: Time, held: Duration) {
        self.ends.insert((until, id));
        self.leases.insert(id, Lease { until, entered: until, held });
    }

    fn renew(&mut self, id: EndpointId, until: Time, held: Duration) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        (lease.until, lease.held) = (until, held);
        if lease.until < lease.entered {
            // The configured lease has become shorter.
            self.ends.remove(&(lease.entered, id));
            self.ends.insert((lease.until, id));
            lease.entered = lease.until;
        }
    }

    pub(crate) fn remove(&mut self, id: EndpointId) {
        if let Some(lease) = self.leases.remove(id) {
            self.ends.remove(&(lease.entered, id));
        }
    }

    /// The endpoints that have a lease. Panics if one is not entered exactly once.
    pub(crate) fn check_invariants(&self) -> impl Iterator<Item = EndpointId> {
        assert_eq!(self.ends, self.leases.iter().map(|(id, lease)| (lease.entered, id)).collect());
        self.leases.keys()
    }
}

impl Engine {
    /// A datagram endpoint was registered: its lease begins.
    pub(crate) fn grant_lease(&mut self, now: Now, id: EndpointId) {
        let held = self.laggards.held_until(now.time);
        self.leases.grant(id, now.boot + self.settings.lease, held);
    }

    /// Renews the lease of a datagram endpoint.
    pub fn renew(&mut self, now: Now, id: EndpointId) {
        let held = self.laggards.held_until(now.time);
        if let Some(endpoint) = self.registry.get_mut(id) {
            endpoint.last_received = now.time.into();
            self.leases.renew(id, now.boot + self.settings.lease, held);
        }
    }

    /// When the lease of an endpoint ends, on the clock that counts suspend, if it has one.
    pub fn lease(&self, id: EndpointId) -> Option<Time> {
        self.leases.leases.get(id).map(|lease| lease.until)
    }

    /// When to call [`Engine::expire`] for a lease, on the clock that counts suspend. It may be too early, because of
    /// renewals.
    pub fn lease_deadline(&self) -> Option<Time> {
        self.leases.ends.first().map(|(deadline, _)| *deadline)
    }

    /// Removes the endpoints whose lease has ended.
    pub(crate) fn expire_leases(&mut self, now: Now) {
        while let Some((deadline, id)) = self.leases.ends.first().copied()
            && deadline <= now.boot
        {
            self.leases.ends.pop_first();
            self.check_lease(now, id);
        }
    }

    fn check_lease(&mut self, now: Now, id: EndpointId) {
        let (held, holding) = (self.laggards.held_until(now.time), self.laggards.is_held());
        let is_native = self.registry.get(id).is_some_and(|endpoint| endpoint.is_native());
        let Some(lease) = self.leases.leases.get_mut(id) else { return };
        let extension = held.saturating_sub(lease.held);
        if lease.until <= now.boot && !is_native && (holding || !extension.is_zero()) {
            // Its renewals may be unread, as all inputs are. Those of native endpoints are read even then: one that has
            // vanished must not hold inputs forever.
            (lease.until, lease.held) = (now.boot + extension.max(Duration::from_secs(1)), held);
        }
        if lease.until > now.boot {
            lease.entered = lease.until;
            self.leases.ends.insert((lease.until, id));
        } else {
            self.connection_lost(now, id, Reason::LeaseExpired);
        }
    }
}
