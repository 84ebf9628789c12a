//! Outgoing native datagrams over the socket that peers share: as many as each endpoint's window allows.

use std::io::IoSlice;
use std::ops::Range;

use upcall_engine::{EndpointId, ListenerNumber, Now};

use super::Datagrams;
use crate::daemon::context::Context;
use crate::daemon::listeners::{ActiveListener, ListenerSocket, Listeners};
use crate::daemon::tokens::PeerKey;
use crate::net::datagram::{SendError, Stalled};

/// The largest UDP payload over IPv4, in bytes (RFC 768, RFC 791).
const MAX_UDP: usize = 65_507;

/// At most this many datagrams are sent to one endpoint in a round, so that the others get their share.
const PER_ROUND: usize = 16;

/// No further datagram is prepared once this many bytes are, so that memory does not depend on the number of endpoints.
const MAX_BYTES: usize = 256 * 1024;

/// A prepared datagram. Its endpoint may have left the registry since.
struct OutgoingDatagram {
    id: EndpointId,
    peer: PeerKey,
    /// Its number, or 0 if it is not retransmitted.
    number: u64,
    /// The range of its bytes in [`Outgoing::bytes`].
    bytes: Range<usize>,
}

/// Prepared datagrams, and their bytes.
#[derive(Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    datagrams: Vec<OutgoingDatagram>,
}

impl Datagrams {
    /// Sends what these native endpoints of one listener may be sent now.
    pub(super) fn send_native(
        &mut self,
        context: &mut Context,
        listeners: &mut Listeners,
        now: Now,
        number: ListenerNumber,
        group: &mut Vec<EndpointId>,
    ) {
        let mut outgoing = std::mem::take(&mut self.outgoing);
        while !group.is_empty() {
            outgoing.bytes.clear();
            outgoing.datagrams.clear();
            group.retain(|id| self.fill(context, listeners, now, number, *id, &mut outgoing));
            if !outgoing.datagrams.is_empty() {
                self.send_outgoing(context, listeners, now, number, &mut outgoing, group);
            }
        }
        self.outgoing = outgoing;
    }

    /// Prepares the next datagrams for one endpoint. Returns whether there may be more.
    fn fill(
        &mut self,
        context: &mut Context,
        listeners: &mut Listeners,
        now: Now,
        number: ListenerNumber,
        id: EndpointId,
        outgoing: &mut Outgoing,
    ) -> bool {
        let Some(endpoint) = context.engine.endpoint(id) else { return false };
        let (peer, is_unix) = (PeerKey::from_tag(endpoint.tag), !endpoint.transport.is_inet());
        let max = if is_unix { usize::MAX } else { MAX_UDP };
        let Outgoing { bytes, datagrams } = outgoing;
        for _ in 0..PER_ROUND {
            let start = bytes.len();
            if start >= MAX_BYTES {
                return true;
            }
            let Some(datagram) = context.engine.next_datagram(now, id, max, bytes) else { return false };
            let size = bytes.len() - start;
            if is_unix && let Err(stalled) = self.grant(listeners, number, peer, size) {
                bytes.truncate(start);
                context.engine.datagram_unsent(id, datagram);
                match stalled {
                    Stalled::Unread => self.stalled(context, now, id),
                    Stalled::Connected => {
                        context.engine.blocked(now, id);
                        context.timers.peer_queue_full.add(now.time, id);
                    }
                }
                return false;
            }
            datagrams.push(OutgoingDatagram { id, peer, number: datagram, bytes: start..start + size });
        }
        true
    }

    /// Charges a datagram to a Unix peer. Fails if the peer has used up its credit with the shared socket.
    fn grant(
        &mut self,
        listeners: &mut Listeners,
        number: ListenerNumber,
        key: PeerKey,
        size: usize,
    ) -> Result<(), Stalled> {
        let Some(ActiveListener { socket: ListenerSocket::Datagrams(socket), flow, .. }) = listeners.get_mut(number)
        else {
            return Ok(());
        };
        let Some((peer, in_flight)) = self.peers.in_flight_mut(key) else { return Ok(()) };
        flow.begin_round();
        flow.grant(socket, peer, in_flight, 1, size)?;
        flow.sent(in_flight, 1, size);
        Ok(())
    }

    fn send_outgoing(
        &mut self,
        context: &mut Context,
        listeners: &mut Listeners,
        now: Now,
        number: ListenerNumber,
        Outgoing { bytes, datagrams }: &mut Outgoing,
        group: &mut Vec<EndpointId>,
    ) {
        let Some(socket) = listeners.datagram_socket(number) else { return group.clear() };
        let mut batch = socket.batch(&mut self.batches);
        // A peer that has been removed meanwhile is sent nothing, and has no outcome.
        datagrams.retain(|datagram| {
            let Some(peer) = self.peers.get(datagram.peer) else { return false };
            let (destination, local) = peer.route.destination();
            batch.push(destination, local, [IoSlice::new(&bytes[datagram.bytes.clone()])], None);
            true
        });
        let mut failed: Vec<(EndpointId, SendError)> = Vec::new();
        for (datagram, outcome) in datagrams.iter().zip(batch.send()) {
            let Some(error) = outcome.error else { continue };
            match error {
                SendError::TooLarge => context.engine.datagram_oversize(datagram.id, datagram.number),
                // Treated like a datagram that the network lost: it is retransmitted until the lease ends.
                SendError::Unreachable(_) => {}
                SendError::Full | SendError::NoMemory | SendError::Gone => {
                    context.engine.datagram_unsent(datagram.id, datagram.number);
                    if failed.last().is_none_or(|(id, _)| *id != datagram.id) {
                        failed.push((datagram.id, error));
                    }
                }
            }
        }
        for (id, error) in failed {
            group.retain(|other| *other != id);
            self.suspend(context, listeners, now, number, id, error);
        }
    }
}
