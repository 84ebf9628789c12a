//! How the daemon accepts, reads and writes the connections of native clients.

use upcall_engine::{Endpoint, EndpointId, ExpectedProtocol, InputTurn, Progress, Registration};
use upcall_wire::address::{Peer, Transport};
use upcall_wire::frame::{Frame, FrameDecoder};
use upcall_wire::reason::Reason;

use super::connection::{ConnectionEnd, NativeConnection};
use crate::simulation::Simulation;

impl Simulation {
    /// Accepts a connection and returns its tag.
    pub(crate) fn accept(&mut self) -> u64 {
        let tag = self.native.new_tag();
        let registration = Registration {
            protocol: if self.rng.bool() { ExpectedProtocol::Auto } else { ExpectedProtocol::Native },
            tag,
            listener: 1,
            transport: Transport::Tcp,
            peer: Peer::inet(([127, 0, 0, 2], self.rng.u16(1..)).into()),
            receives: true,
            max_per_listener: None,
            max_per_source: None,
        };
        let endpoint = self.engine.register(self.now(), registration);
        let refused = endpoint.err().map(|refusal| format!("upcalld: {refusal}\n").into_bytes());
        let connection = NativeConnection {
            endpoint: endpoint.ok(),
            decoder: None,
            up: Vec::new(),
            end: None,
            down: refused.unwrap_or_default(),
            capacity: if self.rng.bool() || self.all_read { 64 << 10 } else { self.rng.usize(1..4_000) },
            blocked: false,
            parked: false,
            discard: false,
            open: true,
        };
        self.native.connections.insert(tag, connection);
        tag
    }

    pub(crate) fn read_connections(&mut self) {
        for tag in self.native.connections.keys().copied().collect::<Vec<_>>() {
            self.read_connection(tag);
        }
        self.native.connections.retain(|_, connection| connection.endpoint.is_some() || connection.open);
    }

    fn read_connection(&mut self, tag: u64) {
        let now = self.now();
        let everything = self.all_read;
        let Some(connection) = self.native.connections.get_mut(&tag) else { return };
        let Some(id) = connection.endpoint else { return };
        if connection.parked {
            // A parked connection is not read, but epoll reports a reset of it.
            if connection.end == Some(ConnectionEnd::Reset) && self.rng.u8(..8) == 0 {
                self.engine.connection_lost(now, id, Reason::Reset);
            }
            return;
        }
        if connection.discard {
            connection.up.clear();
        }
        let count = if everything || connection.decoder.is_none() {
            connection.up.len()
        } else {
            self.rng.usize(..=connection.up.len())
        };
        let chunk: Vec<u8> = connection.up.drain(..count).collect();
        if let Some(0) = chunk.first()
            && connection.decoder.is_none()
        {
            connection.decoder = Some(FrameDecoder::default());
            self.engine.detected_native(now, id);
        }
        let Some(mut decoder) = self.native.connections.get_mut(&tag).and_then(|connection| connection.decoder.take())
        else {
            return self.handle_connection_end(tag, id);
        };
        let mut rest = &chunk[..];
        let mut any_frame = false;
        let complete = loop {
            let turn = self.engine.request_input(now, id);
            if turn != InputTurn::Granted {
                if let Some(connection) = self.native.connections.get_mut(&tag) {
                    connection.parked = turn == InputTurn::Parked;
                    connection.up.splice(..0, rest.iter().copied());
                }
                break false;
            }
            match decoder.next(&mut rest, self.settings.max_message) {
                Ok(Some(Frame::Hello(hello))) => {
                    any_frame = true;
                    let welcome = self.engine.handle_hello(now, id, &hello, self.native.terms());
                    self.note_hello(id, &hello, welcome.as_ref().ok());
                }
                Ok(Some(frame)) => {
                    any_frame = true;
                    self.native_frame(id, &frame);
                }
                Ok(None) => break true,
                Err(violation) => panic!("a client sent a wrong frame: {violation}"),
            }
            if self.engine.endpoint(id).is_none_or(|endpoint| endpoint.leaving().is_some()) {
                if let Some(connection) = self.native.connections.get_mut(&tag) {
                    connection.discard = true;
                }
                break false;
            }
        };
        let unfinished = decoder.is_unfinished();
        if let Some(connection) = self.native.connections.get_mut(&tag) {
            connection.decoder = Some(decoder);
        }
        if any_frame {
            self.engine.note_received(now, id, false);
        }
        if complete {
            self.engine.note_received(now, id, unfinished);
            self.handle_connection_end(tag, id);
        }
    }

    /// Everything that has arrived is read. If the client has ended the connection, the endpoint leaves.
    fn handle_connection_end(&mut self, tag: u64, id: EndpointId) {
        let now = self.now();
        let Some(connection) = self.native.connections.get_mut(&tag) else { return };
        if !connection.up.is_empty() {
            return;
        }
        match connection.end {
            Some(ConnectionEnd::Eof) if !connection.discard => {
                connection.discard = true;
                self.engine.leave(now, id, Reason::Closed);
            }
            Some(ConnectionEnd::Reset) => self.engine.connection_lost(now, id, Reason::Reset),
            Some(ConnectionEnd::Silent) if self.all_read || self.rng.u8(..50) == 0 => {
                self.engine.connection_lost(now, id, Reason::Dead);
            }
            _ => {}
        }
    }

    pub(crate) fn flush_connection(&mut self, id: EndpointId, tag: u64) {
        let now = self.now();
        let Some(connection) = self.native.connections.get_mut(&tag) else { return };
        loop {
            let whole = self.engine.single_slice(id).map(<[u8]>::to_vec);
            let slices = self.engine.slices(id);
            assert!(whole.iter().all(|whole| slices.iter().flat_map(|slice| slice.iter()).eq(whole)));
            if slices.bytes() > 0 && matches!(connection.end, Some(ConnectionEnd::Reset)) {
                return self.engine.close_writes(now, id);
            }
            let room = connection.capacity.saturating_sub(connection.down.len());
            let written = slices.bytes().min(room).min(self.rng.usize(1..100_000));
            if written == 0 && slices.bytes() > 0 {
                connection.blocked = true;
                return self.engine.blocked(now, id);
            }
            connection.down.extend(slices.iter().flat_map(|slice| slice.iter()).take(written));
            if whole.is_some_and(|whole| whole.len() == written) {
                return self.engine.advance_all(now, id);
            }
            if self.engine.advance(now, id, written) == Progress::Done {
                return;
            }
        }
    }

    /// The engine has removed an endpoint.
    pub(crate) fn native_left(&mut self, endpoint: &Endpoint, reason: Reason, complete: bool) {
        let tag = endpoint.tag;
        self.native.counts.superseded += u64::from(reason == Reason::Superseded);
        if let Some(connection) = self.native.connections.get_mut(&tag) {
            connection.endpoint = None;
            connection.parked = false;
            if !complete && self.rng.bool() {
                // A reset: the client loses what it has not read.
                connection.down.clear();
            }
        } else if let Some(peer) = self.native.peers.remove(&tag) {
            let expired = peer.lease <= self.now + self.suspended;
            assert!(reason != Reason::LeaseExpired || expired, "a lease ended early");
            if !complete {
                self.send_farewell(peer.address, endpoint, reason);
            }
        }
    }

    /// Reports to the engine which sockets have room again. A datagram socket gets room at random.
    pub(crate) fn report_writable_sockets(&mut self) {
        for connection in self.native.connections.values_mut() {
            if connection.blocked
                && connection.down.len() < connection.capacity
                && let Some(id) = connection.endpoint
            {
                connection.blocked = false;
                self.engine.writable(id);
            }
        }
        for peer in self.native.peers.values_mut() {
            if peer.blocked && (self.all_read || self.rng.u8(..4) == 0) {
                peer.blocked = false;
                self.engine.writable(peer.endpoint);
            }
        }
    }
}
