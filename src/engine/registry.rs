//! The registry: who is registered, where each stands, and how many of them there may be.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use slotmap::SlotMap;

use super::log::Cursor;
use super::outbox::Outbox;
use super::slow::Slow;
use super::time::Time;
use crate::address::{Peer, Transport};
use crate::wire::reason::{Reason, Refusal};

slotmap::new_key_type! {
    /// An endpoint's place in the registry; never valid again once the endpoint has left.
    pub struct EndpointId;
}

/// A listener, as far as the registry counts by it; the driver gives the numbers.
pub type ListenerNumber = u32;

/// Who wants to be registered.
#[derive(Debug, Clone, Copy)]
pub struct Registration {
    /// The driver's own handle, which comes back with every [`super::Event`].
    pub tag: u64,
    /// Where it came in.
    pub listener: ListenerNumber,
    /// How it came.
    pub transport: Transport,
    /// Who it is.
    pub peer: Peer,
    /// Whether upcalls are due to it; `false` for the clients of a listener whose role is `input`.
    pub receives: bool,
    /// The most endpoints that its listener may have.
    pub max_per_listener: Option<usize>,
    /// The most endpoints that its listener may have from one address (IPv4), /64 network (IPv6) or user (Unix).
    pub max_per_source: Option<usize>,
}

/// Where an endpoint stands between the log and its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Everything that was due to it is written.
    CaughtUp,
    /// Something is due to it, and its socket has not refused it yet.
    Ready,
    /// Its socket takes no more for now.
    Blocked,
    /// Its socket will never take anything again; what it sent may still be read.
    Deaf,
}

/// How long a datagram endpoint stays, on the clock that counts suspend.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) until: Time,
    /// The deadline that is entered for it: a renewal only moves `until`.
    pub(super) entered: Time,
    /// How long inputs had been held in all when it was renewed: while they are, no renewal is read.
    pub(super) held: Duration,
}

/// A registered client.
#[derive(Debug)]
pub struct Endpoint {
    /// Counts up from 1 and is never used again.
    pub number: u64,
    /// The driver's handle.
    pub tag: u64,
    /// Where it came in.
    pub listener: ListenerNumber,
    /// How it came.
    pub transport: Transport,
    /// Who it is.
    pub peer: Peer,
    /// When it was registered.
    pub registered: Time,
    /// When it was last heard.
    pub heard: Time,
    /// Inputs that came from it.
    pub inputs: u64,
    /// Upcalls that were written to it.
    pub upcalls: u64,
    pub(super) receives: bool,
    /// Streams have none.
    pub(super) lease: Option<Box<Lease>>,
    pub(super) delivery: Delivery,
    /// Meaningless while it is caught up, but never behind where it was when it was registered.
    pub(super) cursor: Cursor,
    /// It gets nothing from here on; `u64::MAX` while it stays.
    pub(super) until: u64,
    pub(super) leaving: Option<Reason>,
    pub(super) slow: Option<Box<Slow>>,
    pub(super) outbox: Option<Box<Outbox>>,
}

impl Endpoint {
    /// Whether upcalls are due to it.
    pub fn receives(&self) -> bool {
        self.receives
    }

    /// When its lease ends, on the clock that counts suspend, if it has one.
    pub fn lease(&self) -> Option<Time> {
        self.lease.as_ref().map(|lease| lease.until)
    }

    /// Whether its socket is full.
    pub fn is_behind(&self) -> bool {
        self.delivery == Delivery::Blocked
    }

    /// Why it is about to leave, if it is.
    pub fn leaving(&self) -> Option<Reason> {
        self.leaving
    }
}

/// Whom a cap for each source counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Address(IpAddr),
    User(u32),
}

impl Source {
    fn of(peer: Peer) -> Source {
        match peer {
            Peer::Unix(credentials) => Source::User(credentials.uid),
            Peer::Inet(address) => match address.ip().to_canonical() {
                // One customer of a provider commonly has a whole /64 (RFC 6177).
                IpAddr::V6(ip) => Source::Address(IpAddr::V6((ip.to_bits() & !(u128::from(u64::MAX))).into())),
                ip => Source::Address(ip),
            },
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    endpoints: SlotMap<EndpointId, Endpoint>,
    receivers: usize,
    last_number: u64,
    per_listener: HashMap<ListenerNumber, usize>,
    per_source: HashMap<(ListenerNumber, Source), usize>,
}

impl Registry {
    /// Registers an endpoint whose place in the log is `next`.
    pub(super) fn insert(
        &mut self,
        who: Registration,
        max: usize,
        next: u64,
        now: Time,
    ) -> Result<EndpointId, Refusal> {
        let source = (who.listener, Source::of(who.peer));
        if self.endpoints.len() >= max {
            return Err(Refusal::MaxEndpoints);
        }
        if who
            .max_per_listener
            .is_some_and(|max| self.per_listener.get(&who.listener).is_some_and(|count| *count >= max))
        {
            return Err(Refusal::ListenerMaxEndpoints);
        }
        if who.max_per_source.is_some_and(|max| self.per_source.get(&source).is_some_and(|count| *count >= max)) {
            return Err(Refusal::MaxPerSource);
        }
        *self.per_listener.entry(who.listener).or_default() += 1;
        *self.per_source.entry(source).or_default() += 1;
        self.receivers += usize::from(who.receives);
        self.last_number += 1;
        let Registration { tag, listener, transport, peer, receives, .. } = who;
        Ok(self.endpoints.insert(Endpoint {
            number: self.last_number,
            tag,
            listener,
            transport,
            peer,
            registered: now,
            heard: now,
            inputs: 0,
            upcalls: 0,
            receives,
            lease: None,
            delivery: Delivery::CaughtUp,
            cursor: Cursor::at(next),
            until: u64::MAX,
            leaving: None,
            slow: None,
            outbox: None,
        }))
    }

    pub(super) fn remove(&mut self, id: EndpointId) -> Option<Endpoint> {
        let endpoint = self.endpoints.remove(id)?;
        self.receivers -= usize::from(endpoint.receives);
        release(&mut self.per_listener, endpoint.listener);
        release(&mut self.per_source, (endpoint.listener, Source::of(endpoint.peer)));
        Some(endpoint)
    }

    /// Nothing that comes from now on is due to it.
    pub(super) fn stop_receiving(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.endpoints.get_mut(id) {
            self.receivers -= usize::from(std::mem::replace(&mut endpoint.receives, false));
        }
    }

    pub(super) fn get(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(id)
    }

    pub(super) fn get_mut(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        self.endpoints.get_mut(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (EndpointId, &Endpoint)> {
        self.endpoints.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (EndpointId, &mut Endpoint)> {
        self.endpoints.iter_mut()
    }

    /// Endpoints, those that are about to leave included.
    pub(super) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Endpoints to which upcalls are due.
    pub(super) fn receivers(&self) -> usize {
        self.receivers
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.receivers, self.endpoints.values().filter(|endpoint| endpoint.receives).count());
        assert_eq!(self.endpoints.len(), self.per_listener.values().sum::<usize>());
        assert_eq!(self.endpoints.len(), self.per_source.values().sum::<usize>());
    }
}

/// Gives one back; a count of zero is not kept.
fn release<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let std::collections::hash_map::Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Credentials;
    use proptest::prelude::*;

    fn tcp(address: &str) -> Peer {
        Peer::inet(address.parse().unwrap())
    }

    fn who(peer: Peer) -> Registration {
        Registration {
            tag: 0,
            listener: 1,
            transport: Transport::Tcp,
            peer,
            receives: true,
            max_per_listener: Some(4),
            max_per_source: Some(2),
        }
    }

    #[test]
    fn every_cap_refuses_by_its_own_name() {
        let mut registry = Registry::default();
        let mut insert = |peer, max| registry.insert(who(peer), max, 1, Time(0));
        let first = insert(tcp("192.0.2.1:1"), 9).unwrap();
        insert(tcp("192.0.2.1:2"), 9).unwrap();
        assert_eq!(insert(tcp("192.0.2.1:3"), 9), Err(Refusal::MaxPerSource));
        insert(tcp("[2001:db8::1]:1"), 9).unwrap();
        insert(tcp("[2001:db8::2]:1"), 9).unwrap();
        assert_eq!(insert(tcp("[2001:db8::3]:1"), 9), Err(Refusal::ListenerMaxEndpoints));
        assert_eq!(insert(tcp("192.0.2.9:1"), 4), Err(Refusal::MaxEndpoints));
        registry.remove(first);
        registry.insert(who(tcp("192.0.2.1:4")), 9, 1, Time(0)).unwrap();
        registry.check_invariants();
    }

    #[test]
    fn users_and_networks_are_sources() {
        let user = |uid, pid| Peer::Unix(Credentials { pid, uid, gid: 0 });
        let mut registry = Registry::default();
        let mut insert = |peer| registry.insert(who(peer), 9, 1, Time(0));
        insert(user(1000, 1)).unwrap();
        insert(user(1000, 2)).unwrap();
        assert_eq!(insert(user(1000, 3)), Err(Refusal::MaxPerSource));
        insert(user(1001, 3)).unwrap();
        insert(tcp("[2001:db8:0:1::1]:1")).unwrap();
    }

    proptest! {
        /// Whatever comes and goes, what is counted is what is there, and numbers only rise.
        #[test]
        fn counts_follow_the_endpoints(steps in prop::collection::vec((any::<bool>(), 0u8..4, 0usize..8), 1..200)) {
            let mut registry = Registry::default();
            let mut present = Vec::new();
            let mut last = 0;
            for (leave, source, index) in steps {
                if leave && !present.is_empty() {
                    let id = present.swap_remove(index % present.len());
                    prop_assert!(registry.remove(id).is_some());
                    prop_assert!(registry.remove(id).is_none());
                } else if let Ok(id) = registry.insert(who(tcp(&format!("192.0.2.{source}:1"))), 6, 1, Time(0)) {
                    let number = registry.get(id).unwrap().number;
                    prop_assert!(number > last);
                    last = number;
                    present.push(id);
                }
                registry.check_invariants();
                prop_assert_eq!(registry.len(), present.len());
                prop_assert!(registry.len() <= 4);
            }
        }
    }
}
