//! The limits on endpoints: in total, for each listener, and for each source at a listener.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use upcall_wire::address::Peer;
use upcall_wire::reason::Refusal;

use super::endpoint::{Endpoint, Registration};
use crate::id::{LimitSource, ListenerNumber};

/// How many endpoints each listener has, and each source at a listener.
#[derive(Debug, Default)]
pub(super) struct EndpointCounts {
    per_listener: HashMap<ListenerNumber, usize>,
    per_source: HashMap<(ListenerNumber, LimitSource), usize>,
}

impl EndpointCounts {
    /// Checks whether the limits have room for one more endpoint beside `count` others, of which `max` may be registered.
    /// The endpoint `superseded` is about to be replaced, and does not count.
    pub(super) fn check(
        &self,
        client: &Registration,
        superseded: Option<&Endpoint>,
        count: usize,
        max: usize,
    ) -> Result<(), Refusal> {
        let from_here = superseded.filter(|endpoint| endpoint.listener == client.listener);
        let is_full = |count: Option<&usize>, superseded: Option<&Endpoint>, max: usize| {
            count.is_some_and(|count| count - usize::from(superseded.is_some()) >= max)
        };
        if is_full(Some(&count), superseded, max) {
            return Err(Refusal::MaxEndpoints);
        }
        // Looked up only where a limit is set.
        if let Some(max) = client.max_per_listener
            && is_full(self.per_listener.get(&client.listener), from_here, max)
        {
            return Err(Refusal::ListenerMaxEndpoints);
        }
        if let Some(max) = client.max_per_source {
            let source = LimitSource::of(client.peer);
            let of_source = from_here.filter(|endpoint| LimitSource::of(endpoint.peer) == source);
            if is_full(self.per_source.get(&(client.listener, source)), of_source, max) {
                return Err(Refusal::MaxPerSource);
            }
        }
        Ok(())
    }

    pub(super) fn add(&mut self, listener: ListenerNumber, peer: Peer) {
        *self.per_listener.entry(listener).or_default() += 1;
        *self.per_source.entry((listener, LimitSource::of(peer))).or_default() += 1;
    }

    pub(super) fn remove(&mut self, listener: ListenerNumber, peer: Peer) {
        count_one_less(&mut self.per_listener, listener);
        count_one_less(&mut self.per_source, (listener, LimitSource::of(peer)));
    }

    /// An endpoint has moved to another address.
    pub(super) fn set_peer(&mut self, listener: ListenerNumber, before: Peer, after: Peer) {
        count_one_less(&mut self.per_source, (listener, LimitSource::of(before)));
        *self.per_source.entry((listener, LimitSource::of(after))).or_default() += 1;
    }

    /// Panics unless there are this many endpoints.
    pub(super) fn check_invariants(&self, endpoints: usize) {
        assert_eq!(endpoints, self.per_listener.values().sum::<usize>());
        assert_eq!(endpoints, self.per_source.values().sum::<usize>());
    }
}

/// A count of zero is not kept.
fn count_one_less<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}
