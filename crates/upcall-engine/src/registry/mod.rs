//! The registry: who is registered, what each wants, and how many of them there may be.

pub(crate) mod endpoint;
pub(crate) mod lease;
pub(crate) mod topics;

use std::collections::HashMap;
use std::rc::Rc;

use slotmap::SlotMap;

use crate::id::{EndpointId, ListenerNumber, PeerSource};
use crate::log::Rendition;
use crate::log::filters::Filters;
use crate::log::reading::Cursor;
use crate::registry::endpoint::{Delivery, Endpoint, ExpectedProtocol, Native, Protocol, Registration};
use crate::registry::topics::TopicIndex;
use crate::time::Time;
use upcall_wire::address::Peer;
use upcall_wire::reason::Refusal;

#[derive(Debug, Default)]
pub(crate) struct Registry {
    endpoints: SlotMap<EndpointId, Endpoint>,
    receivers: usize,
    /// Those who get some topics only.
    filtered: usize,
    /// Those who get everything, in no order; only while there are others. Otherwise all receivers do.
    everyone: Vec<EndpointId>,
    /// Those who get some topics only, by what they want.
    index: TopicIndex,
    /// How many there are that read text, or may turn out to.
    text: usize,
    last_number: u64,
    per_listener: HashMap<ListenerNumber, usize>,
    per_source: HashMap<(ListenerNumber, PeerSource), usize>,
}

impl Registry {
    /// Registers an endpoint whose place in the log is `next`. If it is to take the place of the endpoint `over`, that one
    /// does not count any more.
    pub(crate) fn insert(
        &mut self,
        who: Registration,
        over: Option<EndpointId>,
        max: usize,
        next: u64,
        now: Time,
    ) -> Result<EndpointId, Refusal> {
        let source = (who.listener, PeerSource::of(who.peer));
        let over = over.and_then(|id| self.endpoints.get(id));
        let from_here = over.filter(|over| over.listener == who.listener);
        let of_source = from_here.filter(|over| PeerSource::of(over.peer) == source.1);
        let is_full = |count: Option<&usize>, over: Option<&Endpoint>, max: usize| {
            count.is_some_and(|count| count - usize::from(over.is_some()) >= max)
        };
        if is_full(Some(&self.endpoints.len()), over, max) {
            return Err(Refusal::MaxEndpoints);
        }
        if who.max_per_listener.is_some_and(|max| is_full(self.per_listener.get(&who.listener), from_here, max)) {
            return Err(Refusal::ListenerMaxEndpoints);
        }
        if who.max_per_source.is_some_and(|max| is_full(self.per_source.get(&source), of_source, max)) {
            return Err(Refusal::MaxPerSource);
        }
        *self.per_listener.entry(who.listener).or_default() += 1;
        *self.per_source.entry(source).or_default() += 1;
        self.last_number += 1;
        let Registration { tag, listener, transport, peer, .. } = who;
        let (protocol, delivery) = match who.protocol {
            ExpectedProtocol::Text => (Protocol::Text, Delivery::CaughtUp),
            ExpectedProtocol::Auto => (Protocol::Undecided, Delivery::Undecided),
            ExpectedProtocol::Native => (Protocol::AwaitingHello, Delivery::CaughtUp),
        };
        let receives = who.receives && who.protocol != ExpectedProtocol::Native;
        self.receivers += usize::from(receives);
        self.text += usize::from(who.protocol != ExpectedProtocol::Native);
        let id = self.endpoints.insert(Endpoint {
            number: self.last_number,
            tag,
            listener,
            transport,
            peer,
            registered: now.into(),
            last_received: now.into(),
            inputs: 0,
            upcalls: 0,
            receives,
            everyone: 0,
            protocol,
            begun: false,
            native: None,
            delivery,
            cursor: Cursor::at(next),
            until: if receives { u64::MAX } else { next },
            leaving: None,
            slow: None,
            outbox: None,
        });
        if receives {
            self.enter_everyone(id);
        }
        Ok(id)
    }

    fn enter_everyone(&mut self, id: EndpointId) {
        if self.filtered > 0
            && let Some(endpoint) = self.endpoints.get_mut(id)
        {
            endpoint.everyone = self.everyone.len() as u32;
            self.everyone.push(id);
        }
    }

    /// Enters an endpoint that gets some topics only.
    fn enter_index(&mut self, id: EndpointId, filters: &Filters) {
        self.index.add(id, filters);
        self.filtered += 1;
        if self.filtered == 1 {
            let gets_all = |(id, endpoint): (EndpointId, &Endpoint)| endpoint.gets_everything().then_some(id);
            self.everyone = self.endpoints.iter().filter_map(gets_all).collect();
            for (place, id) in self.everyone.iter().enumerate() {
                self.endpoints[*id].everyone = place as u32;
            }
        }
    }

    /// Takes an endpoint out of the lists by which inputs find it.
    fn unlist(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(id).filter(|endpoint| endpoint.receives) else { return };
        if let Some(filters) = endpoint.filters() {
            self.index.remove(id, filters);
            self.filtered -= 1;
            if self.filtered == 0 {
                self.everyone = Vec::new();
            }
        } else if self.filtered > 0 {
            let place = endpoint.everyone;
            self.everyone.swap_remove(place as usize);
            if let Some(moved) = self.everyone.get(place as usize).and_then(|id| self.endpoints.get_mut(*id)) {
                moved.everyone = place;
            }
        }
    }

    /// An endpoint has said what it speaks.
    pub(crate) fn set_protocol(&mut self, id: EndpointId, protocol: Protocol, native: Option<Box<Native>>) {
        if let Some(endpoint) = self.endpoints.get_mut(id) {
            let before = endpoint.rendition();
            (endpoint.protocol, endpoint.native) = (protocol, native);
            match (before, endpoint.rendition()) {
                (Rendition::Text, Rendition::Frames) => self.text -= 1,
                (Rendition::Frames, Rendition::Text) => self.text += 1,
                _ => {}
            }
        }
    }

    /// Nobody knows an endpoint by another number any more.
    pub(crate) fn renumber(&mut self, id: EndpointId, number: u64) {
        if let Some(endpoint) = self.endpoints.get_mut(id) {
            endpoint.number = number;
        }
    }

    /// An endpoint is at another address from now on, for which it counts.
    pub(crate) fn moved(&mut self, id: EndpointId, peer: Peer) {
        let Some(endpoint) = self.endpoints.get_mut(id) else { return };
        let before = std::mem::replace(&mut endpoint.peer, peer);
        release(&mut self.per_source, (endpoint.listener, PeerSource::of(before)));
        *self.per_source.entry((endpoint.listener, PeerSource::of(peer))).or_default() += 1;
    }

    /// An endpoint gets upcalls or not, and if so, those that pass these filters.
    pub(crate) fn receive(&mut self, id: EndpointId, receives: bool, filters: Option<Rc<Filters>>) {
        self.unlist(id);
        let Some(endpoint) = self.endpoints.get_mut(id) else { return };
        self.receivers -= usize::from(std::mem::replace(&mut endpoint.receives, receives));
        self.receivers += usize::from(receives);
        if let Some(native) = endpoint.native_mut() {
            native.session.filters = filters.clone();
        }
        match filters {
            _ if !receives => {}
            None => self.enter_everyone(id),
            Some(filters) => self.enter_index(id, &filters),
        }
    }

    pub(crate) fn remove(&mut self, id: EndpointId) -> Option<Endpoint> {
        self.unlist(id);
        let endpoint = self.endpoints.remove(id)?;
        self.receivers -= usize::from(endpoint.receives);
        self.text -= usize::from(endpoint.rendition() == Rendition::Text);
        release(&mut self.per_listener, endpoint.listener);
        release(&mut self.per_source, (endpoint.listener, PeerSource::of(endpoint.peer)));
        Some(endpoint)
    }

    /// Nothing that comes from now on is due to it.
    pub(crate) fn stop_receiving(&mut self, id: EndpointId) {
        self.unlist(id);
        if let Some(endpoint) = self.endpoints.get_mut(id) {
            self.receivers -= usize::from(std::mem::replace(&mut endpoint.receives, false));
        }
    }

    pub(crate) fn get(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        self.endpoints.get_mut(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (EndpointId, &Endpoint)> {
        self.endpoints.iter()
    }

    /// How many get everything.
    pub(crate) fn everyone(&self) -> usize {
        self.receivers - self.filtered
    }

    /// Whether anybody gets some topics only.
    pub(crate) fn has_filtered(&self) -> bool {
        self.filtered > 0
    }

    /// Does something with each of those who get everything.
    pub(crate) fn for_everyone(&mut self, mut work: impl FnMut(EndpointId, &mut Endpoint)) {
        if self.filtered == 0 {
            return self.endpoints.iter_mut().filter(|(_, e)| e.receives).for_each(|(id, endpoint)| work(id, endpoint));
        }
        for id in &self.everyone {
            if let Some(endpoint) = self.endpoints.get_mut(*id) {
                work(*id, endpoint);
            }
        }
    }

    /// Adds those who get this topic, and not everything, to `due`.
    pub(crate) fn find(&self, topic: &str, due: &mut Vec<EndpointId>) {
        self.index.find(topic, due);
    }

    /// Whether anybody reads text, or may turn out to.
    pub(crate) fn has_text(&self) -> bool {
        self.text > 0
    }

    /// Endpoints, those that are about to leave included.
    pub(crate) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Endpoints to which upcalls are due.
    pub(crate) fn receivers(&self) -> usize {
        self.receivers
    }

    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.receivers, self.endpoints.values().filter(|endpoint| endpoint.receives).count());
        let reads_text = |endpoint: &&Endpoint| endpoint.rendition() == Rendition::Text;
        assert_eq!(self.text, self.endpoints.values().filter(reads_text).count());
        for (place, id) in self.everyone.iter().enumerate() {
            assert_eq!(self.endpoints[*id].everyone, place as u32);
            assert!(self.endpoints[*id].gets_everything());
        }
        let everyone = self.endpoints.values().filter(|endpoint| endpoint.gets_everything()).count();
        assert_eq!(self.everyone(), everyone);
        assert_eq!(self.everyone.len(), if self.filtered > 0 { everyone } else { 0 });
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
    use proptest::prelude::*;
    use upcall_wire::address::{Credentials, Transport};

    fn tcp(address: &str) -> Peer {
        Peer::inet(address.parse().unwrap())
    }

    fn who(peer: Peer) -> Registration {
        Registration {
            protocol: ExpectedProtocol::Text,
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
        let mut insert = |peer, max| registry.insert(who(peer), None, max, 1, Time(0));
        let first = insert(tcp("192.0.2.1:1"), 9).unwrap();
        insert(tcp("192.0.2.1:2"), 9).unwrap();
        assert_eq!(insert(tcp("192.0.2.1:3"), 9), Err(Refusal::MaxPerSource));
        insert(tcp("[2001:db8::1]:1"), 9).unwrap();
        insert(tcp("[2001:db8::2]:1"), 9).unwrap();
        assert_eq!(insert(tcp("[2001:db8::3]:1"), 9), Err(Refusal::ListenerMaxEndpoints));
        assert_eq!(insert(tcp("192.0.2.9:1"), 4), Err(Refusal::MaxEndpoints));
        registry.remove(first);
        registry.insert(who(tcp("192.0.2.1:4")), None, 9, 1, Time(0)).unwrap();
        registry.check_invariants();
    }

    #[test]
    fn users_and_networks_are_sources() {
        let user = |uid, pid| Peer::Unix(Credentials { pid, uid, gid: 0 });
        let mut registry = Registry::default();
        let mut insert = |peer| registry.insert(who(peer), None, 9, 1, Time(0));
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
                } else if let Ok(id) = registry.insert(who(tcp(&format!("192.0.2.{source}:1"))), None, 6, 1, Time(0)) {
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
