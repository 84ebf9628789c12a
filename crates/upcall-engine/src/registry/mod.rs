//! The registry: which endpoints exist, what each subscribes to, and how many there may be.
//!
//! It finds endpoints and keeps its counts and lists in step with them. It does not deliver, and the only deadlines
//! that it knows are the leases.

pub(crate) mod endpoint;
pub(crate) mod lease;
mod limits;
mod topics;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::Rc;

use slotmap::SlotMap;
use upcall_wire::address::Peer;
use upcall_wire::reason::Refusal;

use crate::id::{EndpointId, OwnIdHasher};
use crate::log::Rendition;
use crate::log::filters::FilterSet;
use crate::log::reading::Cursor;
use crate::time::Time;
use endpoint::{Delivery, DetectedProtocol, Endpoint, ExpectedProtocol, Native, Registration};
use limits::EndpointCounts;
use topics::TopicIndex;

#[derive(Debug, Default)]
pub(crate) struct Registry {
    endpoints: SlotMap<EndpointId, Endpoint>,
    receivers: usize,
    /// How many receivers have filters.
    filtered: usize,
    /// The receivers without filters, in no order. Kept only while some have filters; otherwise it is all receivers.
    everyone: Vec<EndpointId>,
    /// The receivers with filters.
    index: TopicIndex,
    /// How many endpoints read text, or may turn out to do so.
    text: usize,
    last_number: u64,
    counts: EndpointCounts,
    /// Native datagram endpoints, by the key that their datagrams carry. The engine draws the keys.
    keys: HashMap<u64, EndpointId, BuildHasherDefault<OwnIdHasher>>,
}

impl Registry {
    /// Registers an endpoint whose place in the log is `next`. If it is to replace the endpoint `superseded`, the
    /// limits do not count that one.
    ///
    /// # Errors
    /// The limit that refuses it.
    pub(crate) fn insert(
        &mut self,
        client: Registration,
        superseded: Option<EndpointId>,
        max: usize,
        next: u64,
        now: Time,
    ) -> Result<EndpointId, Refusal> {
        let superseded = superseded.and_then(|id| self.endpoints.get(id));
        self.counts.check(&client, superseded, self.endpoints.len(), max)?;
        self.counts.add(client.listener, client.peer);
        self.last_number += 1;
        let Registration { tag, listener, transport, peer, .. } = client;
        let (protocol, delivery) = match client.protocol {
            ExpectedProtocol::Text => (DetectedProtocol::Text, Delivery::CaughtUp),
            ExpectedProtocol::Auto => (DetectedProtocol::Undecided, Delivery::Withheld),
            ExpectedProtocol::Native => (DetectedProtocol::AwaitingHello { sent_frames: false }, Delivery::CaughtUp),
        };
        let receives = client.receives && client.protocol != ExpectedProtocol::Native;
        self.receivers += usize::from(receives);
        self.text += usize::from(client.protocol != ExpectedProtocol::Native);
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

    /// Removes an endpoint from everything that finds it.
    pub(crate) fn remove(&mut self, id: EndpointId) -> Option<Endpoint> {
        self.unlist(id);
        let mut endpoint = self.endpoints.remove(id)?;
        self.receivers -= usize::from(endpoint.receives);
        self.text -= usize::from(endpoint.rendition() == Rendition::Text);
        self.counts.remove(endpoint.listener, endpoint.peer);
        if let Some(acknowledged) = endpoint.acknowledged_mut() {
            self.keys.remove(&acknowledged.welcome().key);
        }
        Some(endpoint)
    }

    fn enter_everyone(&mut self, id: EndpointId) {
        if self.filtered > 0
            && let Some(endpoint) = self.endpoints.get_mut(id)
        {
            endpoint.everyone = self.everyone.len() as u32;
            self.everyone.push(id);
        }
    }

    /// Enters an endpoint that has filters.
    fn enter_index(&mut self, id: EndpointId, filters: &FilterSet) {
        self.index.add(id, filters);
        self.filtered += 1;
        if self.filtered == 1 {
            let gets_all = |(id, endpoint): (EndpointId, &Endpoint)| endpoint.receives_everything().then_some(id);
            self.everyone = self.endpoints.iter().filter_map(gets_all).collect();
            for (place, id) in self.everyone.iter().enumerate() {
                self.endpoints[*id].everyone = place as u32;
            }
        }
    }

    /// Removes an endpoint from the lists by which inputs find it.
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

    /// The protocol of an endpoint is decided; `native` belongs to [`DetectedProtocol::Native`].
    pub(crate) fn set_protocol(&mut self, id: EndpointId, protocol: DetectedProtocol, native: Option<Box<Native>>) {
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

    /// Gives an endpoint the number of the session that it resumes. It has not been sent its own number yet.
    pub(crate) fn renumber(&mut self, id: EndpointId, number: u64) {
        if let Some(endpoint) = self.endpoints.get_mut(id) {
            endpoint.number = number;
        }
    }

    /// An endpoint has another address from now on. The limits count it there.
    pub(crate) fn set_peer(&mut self, id: EndpointId, peer: Peer) {
        let Some(endpoint) = self.endpoints.get_mut(id) else { return };
        let before = std::mem::replace(&mut endpoint.peer, peer);
        self.counts.set_peer(endpoint.listener, before, peer);
    }

    /// Sets whether upcalls are due to an endpoint, and the filters that they must match.
    pub(crate) fn set_receives(&mut self, id: EndpointId, receives: bool, filters: Option<Rc<FilterSet>>) {
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

    /// No further input is due to an endpoint.
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

    /// An endpoint that is not about to leave.
    pub(crate) fn staying(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(id).filter(|endpoint| endpoint.leaving.is_none())
    }

    pub(crate) fn staying_mut(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        self.endpoints.get_mut(id).filter(|endpoint| endpoint.leaving.is_none())
    }

    /// An endpoint that has something to send, and whose socket may have room.
    pub(crate) fn ready(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(id).filter(|endpoint| endpoint.delivery == Delivery::Ready)
    }

    pub(crate) fn ready_mut(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        self.endpoints.get_mut(id).filter(|endpoint| endpoint.delivery == Delivery::Ready)
    }

    /// The endpoint whose datagrams carry this key.
    pub(crate) fn by_key(&self, key: u64) -> Option<EndpointId> {
        self.keys.get(&key).copied()
    }

    /// The datagrams of an endpoint carry this key.
    pub(crate) fn set_key(&mut self, key: u64, id: EndpointId) {
        self.keys.insert(key, id);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (EndpointId, &Endpoint)> {
        self.endpoints.iter()
    }

    /// How many receivers have no filters.
    pub(crate) fn everyone(&self) -> usize {
        self.receivers - self.filtered
    }

    /// Whether some receivers have filters.
    pub(crate) fn has_filtered(&self) -> bool {
        self.filtered > 0
    }

    /// Calls `work` for each receiver without filters.
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

    /// Adds the receivers with a filter that matches this topic to `due`, each once.
    pub(crate) fn find(&self, topic: &str, due: &mut Vec<EndpointId>) {
        self.index.find(topic, due);
    }

    /// Whether some endpoint reads text, or may turn out to do so.
    pub(crate) fn has_text(&self) -> bool {
        self.text > 0
    }

    /// How many endpoints there are, including those that are about to leave.
    pub(crate) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// How many endpoints upcalls are due to.
    pub(crate) fn receivers(&self) -> usize {
        self.receivers
    }

    /// Panics if an invariant does not hold.
    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.receivers, self.endpoints.values().filter(|endpoint| endpoint.receives).count());
        let reads_text = |endpoint: &&Endpoint| endpoint.rendition() == Rendition::Text;
        assert_eq!(self.text, self.endpoints.values().filter(reads_text).count());
        for (place, id) in self.everyone.iter().enumerate() {
            assert_eq!(self.endpoints[*id].everyone, place as u32);
            assert!(self.endpoints[*id].receives_everything());
        }
        let everyone = self.endpoints.values().filter(|endpoint| endpoint.receives_everything()).count();
        assert_eq!(self.everyone(), everyone);
        assert_eq!(self.everyone.len(), if self.filtered > 0 { everyone } else { 0 });
        self.counts.check_invariants(self.endpoints.len());
    }
}

#[cfg(test)]
mod tests;
