//! Native datagrams go out: as many as each endpoint's window has room for, and over the sockets that peers share in batches.

use std::io::IoSlice;
use std::ops::Range;

use crate::daemon::datagrams::peers::{Peer, PeerKey, Route};
use crate::daemon::listeners::{Active, Socket};
use crate::daemon::server::Server;
use crate::net::datagram::{Stalled, Trouble};
use upcall_engine::{EndpointId, ListenerNumber, Now};

/// What UDP carries over IPv4, in bytes (RFC 768, RFC 791).
const MAX_UDP: usize = 65_507;

/// How many datagrams one endpoint gets in a round, so that the others have their turn.
const PER_ROUND: usize = 16;

/// How many bytes are on their way out at a time: how many endpoints there are must not matter for our memory.
const MAX_BYTES: usize = 256 * 1024;

/// A datagram that is to be sent: whose, its number, and where its bytes are. Whose it is may have left with it.
pub(in crate::daemon) struct Letter {
    id: EndpointId,
    peer: PeerKey,
    number: u64,
    bytes: Range<usize>,
}

impl Server {
    /// Sends what may be sent now to these native endpoints of one listener.
    pub(in crate::daemon) fn post_native(&mut self, now: Now, number: ListenerNumber, group: &mut Vec<EndpointId>) {
        let (mut bytes, mut letters) = std::mem::take(&mut self.mail);
        while !group.is_empty() {
            bytes.clear();
            letters.clear();
            group.retain(|id| self.write_letters(now, number, *id, &mut bytes, &mut letters));
            if !letters.is_empty() {
                self.send_letters(now, number, &bytes, &mut letters, group);
            }
        }
        self.mail = (bytes, letters);
    }

    /// The next datagrams for one endpoint; says whether there may be more.
    fn write_letters(
        &mut self,
        now: Now,
        number: ListenerNumber,
        id: EndpointId,
        bytes: &mut Vec<u8>,
        letters: &mut Vec<Letter>,
    ) -> bool {
        let Some(endpoint) = self.engine.endpoint(id) else { return false };
        let (peer, is_unix) = (PeerKey::from_tag(endpoint.tag), !endpoint.transport.is_inet());
        let max = if is_unix { usize::MAX } else { MAX_UDP };
        for _ in 0..PER_ROUND {
            let start = bytes.len();
            if start >= MAX_BYTES {
                return true;
            }
            let Some(letter) = self.engine.next_datagram(now, id, max, bytes) else { return false };
            let letter = Letter { id, peer, number: letter, bytes: start..bytes.len() };
            if is_unix && let Err(stalled) = self.may_send(number, peer, letter.bytes.len()) {
                bytes.truncate(start);
                self.engine.datagram_unsent(id, letter.number);
                match stalled {
                    Stalled::Unread => self.stalled(now, id),
                    Stalled::Connected => {
                        self.engine.blocked(now, id);
                        self.crowded.add(now.time, id);
                    }
                }
                return false;
            }
            letters.push(letter);
        }
        true
    }

    /// Whether a Unix peer may be sent so many bytes over the socket that all share.
    fn may_send(&mut self, number: ListenerNumber, key: PeerKey, size: usize) -> Result<(), Stalled> {
        let Some(Active { socket: Socket::Datagrams(socket), flow, .. }) = self.listeners.get_mut(&number) else {
            return Ok(());
        };
        let Some(Peer { route: Route::Unix { peer, in_flight, .. }, .. }) = self.peers.get_mut(key) else {
            return Ok(());
        };
        flow.begin_round();
        flow.grant(socket, peer, in_flight, 1, size)?;
        flow.sent(in_flight, 1, size);
        Ok(())
    }

    fn send_letters(
        &mut self,
        now: Now,
        number: ListenerNumber,
        bytes: &[u8],
        letters: &mut Vec<Letter>,
        group: &mut Vec<EndpointId>,
    ) {
        let Some(Active { socket: Socket::Datagrams(socket), .. }) = self.listeners.get(&number) else {
            return group.clear();
        };
        let mut batch = socket.batch(&mut self.outbox);
        // One that was found to be gone while the letters were written gets none, and has no fate.
        letters.retain(|letter| {
            let Some(peer) = self.peers.get(letter.peer) else { return false };
            let (destination, local) = peer.route.destination();
            batch.push(destination, local, [IoSlice::new(&bytes[letter.bytes.clone()])], None);
            true
        });
        let fates = batch.send();
        let mut troubled: Vec<(EndpointId, Trouble)> = Vec::new();
        for (letter, fate) in letters.iter().zip(fates) {
            let Some(trouble) = fate.trouble else { continue };
            match trouble {
                Trouble::TooLarge => self.engine.datagram_oversize(letter.id, letter.number),
                // As good as lost on the way: it is sent again until its lease ends.
                Trouble::Unreachable(_) => {}
                Trouble::Full | Trouble::Starved | Trouble::Gone => {
                    self.engine.datagram_unsent(letter.id, letter.number);
                    if troubled.last().is_none_or(|(id, _)| *id != letter.id) {
                        troubled.push((letter.id, trouble));
                    }
                }
            }
        }
        for (id, trouble) in troubled {
            group.retain(|other| *other != id);
            self.hinder(now, number, id, trouble);
        }
    }

    /// An endpoint cannot be sent anything for now.
    fn hinder(&mut self, now: Now, number: ListenerNumber, id: EndpointId, trouble: Trouble) {
        match trouble {
            Trouble::Full if self.is_unix(id) => self.refused(now, number, id),
            Trouble::Full => {
                self.engine.blocked(now, id);
                self.wait_for_port(number, id);
            }
            Trouble::Gone => self.gone(now, id),
            _ => {
                self.engine.blocked(now, id);
                self.starved.add(now.time, id);
            }
        }
    }

    /// Writes to a native peer that has a sending socket of its own; says whether it has.
    pub(in crate::daemon) fn post_native_alone(&mut self, now: Now, id: EndpointId) -> bool {
        let Some(key) = self.engine.endpoint(id).map(|endpoint| PeerKey::from_tag(endpoint.tag)) else { return false };
        let mut bytes = Vec::new();
        loop {
            let Some(peer) = self.peers.get_mut(key) else { return false };
            let Route::Unix { own: own @ Some(_), .. } = &mut peer.route else { return false };
            bytes.clear();
            let Some(letter) = self.engine.next_datagram(now, id, usize::MAX, &mut bytes) else {
                self.back_to_the_others(now, key);
                return true;
            };
            match own.as_ref().map_or(Ok(()), |own| own.socket.send(&[IoSlice::new(&bytes)])) {
                Ok(()) | Err(Trouble::Unreachable(_)) => {}
                Err(Trouble::TooLarge) => self.engine.datagram_oversize(id, letter),
                Err(Trouble::Gone) => {
                    // Somebody else may have the name by now: the shared socket finds out.
                    self.engine.datagram_unsent(id, letter);
                    *own = None;
                    return false;
                }
                Err(trouble) => {
                    own.iter_mut().for_each(|own| own.refused = true);
                    self.engine.datagram_unsent(id, letter);
                    self.engine.blocked(now, id);
                    if trouble == Trouble::Starved {
                        self.starved.add(now.time, id);
                    }
                    return true;
                }
            }
        }
    }
}
