//! The separate sending socket of a Unix peer that does not read: sending over it, and closing it when it is not needed
//! any more.

use std::io::IoSlice;

use upcall_engine::{EndpointId, Engine, Now, Progress};

use super::Datagrams;
use super::peers::{OwnSocket, key_of};
use super::text_out::MAX_DATAGRAMS;
use crate::daemon::context::Context;
use crate::daemon::tokens::PeerKey;
use crate::net::datagram::{PeerSocket, SendError};

impl Datagrams {
    /// Sends what is due to a peer that has a sending socket of its own. Returns false if it has none, or if that
    /// socket's peer is gone.
    pub(super) fn send_over_own_socket(
        &mut self,
        context: &mut Context,
        now: Now,
        id: EndpointId,
        is_text: bool,
    ) -> bool {
        let Some(key) = key_of(&context.engine, id) else { return false };
        let Some(own) = self.peers.own_socket_mut(key).filter(|own| own.is_some()) else { return false };
        let mut bytes = Vec::new();
        while let Some(OwnSocket { socket, refused, .. }) = own {
            let sent = if is_text {
                send_run(&mut context.engine, now, id, socket)
            } else {
                send_datagram(&mut context.engine, now, id, socket, &mut bytes)
            };
            match sent {
                Ok(Progress::More) => continue,
                Ok(Progress::Done) => {}
                Err(SendError::Gone) => {
                    // Another socket may have taken the name. A send over the shared socket shows whether one has.
                    *own = None;
                    return false;
                }
                Err(error) => {
                    context.engine.blocked(now, id);
                    if error == SendError::NoMemory {
                        context.timers.no_memory.add(now.time, id);
                    } else {
                        // The poller reports when there is room.
                        *refused = true;
                    }
                }
            }
            break;
        }
        self.check_later(context, now, key);
        true
    }

    /// The sending socket of a peer has room again.
    pub(in crate::daemon) fn peer_writable(&mut self, context: &mut Context, now: Now, key: PeerKey) {
        if let Some(peer) = self.peers.get(key) {
            context.engine.writable(peer.endpoint);
        }
        self.check_later(context, now, key);
    }

    /// Schedules a check of whether a peer still needs its own socket. The check is delayed, because creating a socket
    /// for each burst would cost more than the burst: the peer goes back to the shared socket only if it has read
    /// everything and its queue has not been full again meanwhile.
    fn check_later(&mut self, context: &mut Context, now: Now, key: PeerKey) {
        if let Some(Some(own)) = self.peers.own_socket_mut(key)
            && !std::mem::replace(&mut own.check_is_due, true)
        {
            context.timers.own_sockets.add(now.time, key);
        }
    }

    /// Closes the own sockets that are not needed any more.
    pub(in crate::daemon) fn check_own_sockets(&mut self, context: &mut Context, now: Now) {
        while let Some(key) = context.timers.own_sockets.pop(now.time) {
            self.check_own_socket(context, now, key);
        }
    }

    fn check_own_socket(&mut self, context: &mut Context, now: Now, key: PeerKey) {
        let Some(own) = self.peers.own_socket_mut(key) else { return };
        let Some(OwnSocket { socket, refused, check_is_due }) = own else { return };
        *check_is_due = false;
        // Until it has read everything, the poller reports each further read.
        if !socket.is_drained() {
            return;
        }
        let refused = std::mem::take(refused);
        if !refused {
            *own = None;
        }
        // The peer may be gone rather than busy. Sending again shows which.
        if let Some(peer) = self.peers.get(key) {
            context.engine.writable(peer.endpoint);
        }
        if refused {
            self.check_later(context, now, key);
        }
    }
}

/// Sends the next run of text datagrams. Returns [`SendError::Full`] also if only a part of the run was sent.
fn send_run(engine: &mut Engine, now: Now, id: EndpointId, socket: &PeerSocket) -> Result<Progress, SendError> {
    let Some(run) = engine.datagram_run(id, usize::MAX, MAX_DATAGRAMS) else {
        engine.advance_run(now, id, 0, true);
        return Ok(Progress::Done);
    };
    let (size, wanted) = (run.bytes.len() / run.count, run.count);
    match socket.send_run(run.bytes, size) {
        Ok(count) => {
            let progress = engine.advance_run(now, id, count, true);
            // Most likely the queue is full. Making sure would cost as much as another send.
            if count < wanted { Err(SendError::Full) } else { Ok(progress) }
        }
        Err(SendError::TooLarge | SendError::Unreachable(_)) => Ok(engine.advance_run(now, id, 1, false)),
        Err(error) => Err(error),
    }
}

/// Sends the next native datagram. `bytes` is a buffer to build it in.
fn send_datagram(
    engine: &mut Engine,
    now: Now,
    id: EndpointId,
    socket: &PeerSocket,
    bytes: &mut Vec<u8>,
) -> Result<Progress, SendError> {
    bytes.clear();
    let Some(number) = engine.next_datagram(now, id, usize::MAX, bytes) else { return Ok(Progress::Done) };
    match socket.send(&[IoSlice::new(bytes)]) {
        Ok(()) | Err(SendError::Unreachable(_)) => {}
        Err(SendError::TooLarge) => engine.datagram_oversize(id, number),
        Err(error) => {
            engine.datagram_unsent(id, number);
            return Err(error);
        }
    }
    Ok(Progress::More)
}
