//! Datagrams go out: in batches over the sockets that peers share, and one by one to those Unix peers that are stalled.

use std::io::IoSlice;
use std::num::NonZeroU16;

use crate::daemon::datagrams::peers::{OwnSocket, Peer, PeerKey, Route};
use crate::daemon::listeners::{Active, Socket};
use crate::daemon::log::warning;
use crate::daemon::server::Server;
use crate::net::datagram::{Fate, PeerSocket, Stalled, Trouble};
use crate::net::poller::Interest;
use upcall_engine::{EndpointId, ListenerNumber, Now, Progress};
use upcall_wire::frame::{UPCALL_OVERHEAD, datagram};
use upcall_wire::reason::Reason;
use upcall_wire::topic::MAX_TOPIC;

/// The most bytes of a run, which is sent as one packet at first, and the most datagrams.
const MAX_RUN: usize = 65_507;
const MAX_DATAGRAMS: usize = 64;

/// How often a connected Unix peer that has not read is tried again soon: longer than a reader takes that has to wait for
/// the processor.
const SOON: u32 = 20;

impl Server {
    /// Sends what is pending to these endpoints, all of them datagram endpoints.
    pub(in crate::daemon) fn post(&mut self, now: Now, endpoints: &mut Vec<EndpointId>) {
        // Those of one listener share its socket, and with it the system calls.
        endpoints.sort_by_key(|id| self.group_of(*id));
        loop {
            endpoints.retain(|id| self.engine.endpoint(*id).is_some());
            let Some(&first) = endpoints.first() else { return };
            let Some((number, is_text)) = self.group_of(first) else { return };
            let is_other = |id: &EndpointId| self.group_of(*id) != Some((number, is_text));
            let end = endpoints.iter().position(is_other).unwrap_or(endpoints.len());
            // Mostly there are no others, and nothing is copied.
            let others = endpoints.split_off(end);
            if self.is_unix(first) {
                endpoints.retain(|id| !self.post_alone(now, *id, is_text));
            }
            if is_text {
                while !endpoints.is_empty() {
                    self.post_round(now, number, endpoints);
                }
            } else {
                self.post_native(now, number, endpoints);
            }
            endpoints.clear();
            endpoints.extend(others);
        }
    }

    /// With whom an endpoint is written to: its listener, and whether it gets text.
    fn group_of(&self, id: EndpointId) -> Option<(ListenerNumber, bool)> {
        self.engine.endpoint(id).map(|endpoint| (endpoint.listener, !endpoint.is_native()))
    }

    /// One run to each of the group over the socket that they share; those who are done leave the group.
    fn post_round(&mut self, now: Now, number: ListenerNumber, group: &mut Vec<EndpointId>) {
        if group.first().is_some_and(|id| self.is_unix(*id)) {
            self.plan(now, number, group);
        } else {
            self.runs.clear();
            self.runs.resize(group.len(), (MAX_DATAGRAMS, 0));
        }
        let Some(Active { socket: Socket::Datagrams(socket), .. }) = self.listeners.get(&number) else {
            return group.clear();
        };
        let mut outbox = std::mem::take(&mut self.outbox);
        let mut batch = socket.batch(&mut outbox);
        let mut runs = std::mem::take(&mut self.runs);
        for (id, (count, size)) in group.iter().zip(&mut runs) {
            let key = self.engine.endpoint(*id).map(|endpoint| PeerKey::from_tag(endpoint.tag));
            let peer = key.and_then(|key| self.peers.get(key));
            let run = if *count > 0 { self.engine.datagram_run(*id, MAX_RUN, *count) } else { None };
            match (run, peer) {
                (Some(run), Some(peer)) => {
                    (*count, *size) = (run.count, run.bytes.len() / run.count);
                    let (destination, local) = peer.route.destination();
                    let segment = u16::try_from(*size).ok().and_then(NonZeroU16::new).filter(|_| *count > 1);
                    batch.push(destination, local, [IoSlice::new(run.bytes)], segment);
                }
                _ => *count = 0,
            }
        }
        let mut fates = batch.send().iter().copied();
        let mut runs_left = runs.drain(..);
        group.retain(|id| match runs_left.next() {
            Some((count @ 1.., size)) => match fates.next() {
                Some(fate) => self.settle(now, number, *id, (count, size), fate),
                None => false,
            },
            _ => {
                self.engine.advance_run(now, *id, 0, true);
                false
            }
        });
        drop(runs_left);
        (self.runs, self.outbox) = (runs, outbox);
    }

    /// Takes note of what became of a run; says whether the endpoint goes on in this turn.
    fn settle(
        &mut self,
        now: Now,
        number: ListenerNumber,
        id: EndpointId,
        (count, size): (usize, usize),
        fate: Fate,
    ) -> bool {
        let key = self.engine.endpoint(id).map(|endpoint| PeerKey::from_tag(endpoint.tag));
        if let Some(Peer { route: Route::Unix { in_flight, .. }, .. }) = key.and_then(|key| self.peers.get_mut(key))
            && let Some(active) = self.listeners.get_mut(&number)
        {
            active.flow.sent(in_flight, fate.sent, size);
        }
        let progress = self.engine.advance_run(now, id, fate.sent, true);
        let Some(trouble) = fate.trouble else { return progress == Progress::More };
        match trouble {
            Trouble::Full if self.is_unix(id) => self.refused(now, number, id),
            Trouble::Full => {
                self.engine.blocked(now, id);
                self.wait_for_port(number, id);
            }
            Trouble::Starved => {
                self.engine.blocked(now, id);
                self.starved.add(now.time, id);
            }
            Trouble::Gone => self.gone(now, id),
            // This peer misses it; what comes later may reach it, until its lease ends.
            Trouble::TooLarge | Trouble::Unreachable(_) => {
                return self.engine.advance_run(now, id, count - fate.sent, false) == Progress::More;
            }
        }
        false
    }

    /// How many datagrams each of a group gets in a round, and how large they are. Those Unix peers leave the group who have
    /// used up their credit with the socket that all share, and have not read everything: they are stalled.
    fn plan(&mut self, now: Now, number: ListenerNumber, group: &mut Vec<EndpointId>) {
        self.runs.clear();
        let Some(Active { socket: Socket::Datagrams(socket), flow, rules, .. }) = self.listeners.get_mut(&number)
        else {
            return;
        };
        flow.begin_round();
        let (mut stalled, mut connected) = (Vec::new(), Vec::new());
        group.retain(|id| {
            let run = self.engine.datagram_run(*id, MAX_RUN, MAX_DATAGRAMS);
            let (mut count, size) = run.map_or((0, 0), |run| (run.count, run.bytes.len() / run.count));
            let key = self.engine.endpoint(*id).map(|endpoint| PeerKey::from_tag(endpoint.tag));
            if count > 0
                && let Some(Peer { route: Route::Unix { peer, in_flight, .. }, .. }) =
                    key.and_then(|key| self.peers.get_mut(key))
            {
                count = match flow.grant(socket, peer, in_flight, count, size) {
                    Ok(granted) => granted,
                    Err(Stalled::Unread) => {
                        stalled.push(*id);
                        return false;
                    }
                    Err(Stalled::Connected) => {
                        connected.push((*id, in_flight.refusals() > SOON));
                        return false;
                    }
                };
            }
            self.runs.push((count, size));
            true
        });
        if let Some(error) = flow.take_trouble() {
            warning!(
                self.log,
                "{}: cannot ask the kernel who has read its datagrams (sock_diag: {error}); clients that have connected \
                 their sockets and do not read can keep each other waiting",
                rules.name
            );
        }
        for id in stalled {
            self.stalled(now, id);
        }
        for (id, for_long) in connected {
            self.engine.blocked(now, id);
            let again = if for_long { &mut self.stuck } else { &mut self.crowded };
            again.add(now.time, id);
        }
    }

    pub(in crate::daemon) fn is_unix(&self, id: EndpointId) -> bool {
        self.engine.endpoint(id).is_some_and(|endpoint| !endpoint.transport.is_inet())
    }

    /// The socket of a listener is full: the poller says when there is room.
    pub(in crate::daemon) fn wait_for_port(&mut self, number: ListenerNumber, id: EndpointId) {
        let Some(active) = self.listeners.get_mut(&number) else { return };
        active.blocked.push(id);
        if active.blocked.len() == 1 && self.poller.modify(&active.socket, number.into(), Interest::ReadWrite).is_err()
        {
            self.starved.add(self.clock.now().time, id);
        }
    }

    /// The socket of a listener has room again.
    pub(in crate::daemon) fn port_is_writable(&mut self, number: ListenerNumber) {
        let Some(active) = self.listeners.get_mut(&number) else { return };
        if active.blocked.is_empty() {
            return;
        }
        for id in active.blocked.drain(..) {
            self.engine.writable(id);
        }
        // It can fail for want of memory only, and then costs an event too many.
        let _ = self.poller.modify(&active.socket, number.into(), Interest::Read);
    }

    /// A Unix peer does not read: it gets a sending socket of its own, so that what it leaves unread is charged to
    /// nobody else. It may also be that the others have filled the socket that all share, and that it reads well enough: so
    /// it is written to over its own at once. One that can have none, since it has connected its socket to ours, is tried
    /// again after a while.
    pub(in crate::daemon) fn stalled(&mut self, now: Now, id: EndpointId) {
        let Some(key) = self.engine.endpoint(id).map(|endpoint| PeerKey::from_tag(endpoint.tag)) else { return };
        let max_message = self.config.upcall.max_message;
        let framed = max_message + datagram::OVERHEAD + UPCALL_OVERHEAD + MAX_TOPIC;
        let largest = self.config.upcall.format.max_rendered(max_message).max(framed);
        if let Some(peer) = self.peers.get_mut(key)
            && let Route::Unix { peer, own: own @ None, .. } = &mut peer.route
        {
            let socket = PeerSocket::connect(peer, largest).ok();
            // Connected, it says truly when there is room; unconnected ones do not (unix(7)).
            let watched = |socket: &PeerSocket| self.poller.add(socket, key.token(), Interest::ReadWrite).is_ok();
            let own_socket = |socket| OwnSocket { socket, refused: true, returning: false };
            *own = socket.filter(watched).map(own_socket);
            if own.is_some() {
                let is_text = self.engine.endpoint(id).is_some_and(|endpoint| !endpoint.is_native());
                if !self.post_alone(now, id, is_text) {
                    self.gone(now, id);
                }
                return;
            }
        }
        self.engine.blocked(now, id);
        if !self.has_own_socket(id) {
            self.crowded.add(now.time, id);
        }
    }

    /// The socket that all share has refused a datagram for a Unix peer: that peer's queue is full, or the socket is.
    pub(in crate::daemon) fn refused(&mut self, now: Now, number: ListenerNumber, id: EndpointId) {
        if let Some(Active { socket: Socket::Datagrams(socket), flow, rules, .. }) = self.listeners.get_mut(&number)
            && let Some(kept) = flow.refused(socket)
        {
            warning!(
                self.log, listener = rules.name;
                "{}: the send buffer is full: clients leave {} KiB unread, and those that have connected their sockets wait \
                 for them; raise net.core.wmem_max (sysctl) and restart, or let fewer in",
                rules.name,
                kept.sending.div_ceil(1024)
            );
        }
        self.stalled(now, id);
    }

    fn has_own_socket(&self, id: EndpointId) -> bool {
        let key = self.engine.endpoint(id).map(|endpoint| PeerKey::from_tag(endpoint.tag));
        let peer = key.and_then(|key| self.peers.get(key));
        peer.is_some_and(|peer| matches!(peer.route, Route::Unix { own: Some(_), .. }))
    }

    /// A peer has got everything, or has read something: if that was all, and its queue is not full again soon, it is served
    /// with the others. A socket for each burst would cost more than the burst.
    pub(in crate::daemon) fn back_to_the_others(&mut self, now: Now, key: PeerKey) {
        if let Some(Peer { route: Route::Unix { own: Some(own), .. }, .. }) = self.peers.get_mut(key)
            && !std::mem::replace(&mut own.returning, true)
        {
            self.returning.add(now.time, key);
        }
    }

    /// A peer has had a sending socket of its own for a while.
    pub(in crate::daemon) fn may_return(&mut self, now: Now, key: PeerKey) {
        let Some(Peer { route: Route::Unix { own, .. }, endpoint, .. }) = self.peers.get_mut(key) else { return };
        let Some(OwnSocket { socket, refused, returning }) = own else { return };
        *returning = false;
        // If it has not read everything, the poller says so when it reads on.
        if socket.is_drained() {
            // What looked like a full queue may have been the end of the peer.
            self.engine.writable(*endpoint);
            if std::mem::take(refused) { self.back_to_the_others(now, key) } else { *own = None }
        }
    }

    /// A peer that has a sending socket of its own can take something again.
    pub(in crate::daemon) fn peer_is_writable(&mut self, now: Now, key: PeerKey) {
        if let Some(peer) = self.peers.get(key) {
            self.engine.writable(peer.endpoint);
        }
        self.back_to_the_others(now, key);
    }

    /// Nobody has the socket of a peer any more.
    pub(in crate::daemon) fn gone(&mut self, now: Now, id: EndpointId) {
        let leaving = self.engine.endpoint(id).and_then(|endpoint| endpoint.leaving());
        self.engine.connection_lost(now, id, leaving.unwrap_or(Reason::Reset));
    }

    /// Writes to a peer that has a sending socket of its own; says whether it has.
    fn post_alone(&mut self, now: Now, id: EndpointId, is_text: bool) -> bool {
        if is_text { self.post_text_alone(now, id) } else { self.post_native_alone(now, id) }
    }

    fn post_text_alone(&mut self, now: Now, id: EndpointId) -> bool {
        let Some(key) = self.engine.endpoint(id).map(|endpoint| PeerKey::from_tag(endpoint.tag)) else { return false };
        loop {
            let Some(peer) = self.peers.get_mut(key) else { return false };
            let Route::Unix { own: own @ Some(_), .. } = &mut peer.route else { return false };
            let Some(run) = self.engine.datagram_run(id, usize::MAX, MAX_DATAGRAMS) else {
                self.engine.advance_run(now, id, 0, true);
                return true;
            };
            let (size, wanted) = (run.bytes.len() / run.count, run.count);
            let sent = own.as_ref().map_or(Ok(1), |own| own.socket.send_run(run.bytes, size));
            let progress = match sent {
                Ok(count) if count < wanted => {
                    // It has no room for the next: asking once more would cost as much as sending it.
                    own.iter_mut().for_each(|own| own.refused = true);
                    self.engine.advance_run(now, id, count, true);
                    self.engine.blocked(now, id);
                    self.back_to_the_others(now, key);
                    return true;
                }
                Ok(count) => self.engine.advance_run(now, id, count, true),
                Err(Trouble::TooLarge | Trouble::Unreachable(_)) => self.engine.advance_run(now, id, 1, false),
                Err(Trouble::Gone) => {
                    // Somebody else may have the name by now: the shared socket finds out.
                    *own = None;
                    return false;
                }
                Err(Trouble::Full) => {
                    own.iter_mut().for_each(|own| own.refused = true);
                    self.engine.blocked(now, id);
                    return true;
                }
                Err(Trouble::Starved) => {
                    self.engine.blocked(now, id);
                    self.starved.add(now.time, id);
                    return true;
                }
            };
            if progress == Progress::Done {
                self.back_to_the_others(now, key);
                return true;
            }
        }
    }
}
