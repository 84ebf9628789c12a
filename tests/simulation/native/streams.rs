//! Connections: pipes of bytes that break anywhere, and how the daemon reads and writes them.

use upcall_engine::{Endpoint, EndpointId, ExpectedProtocol, InputTurn, Progress, Registration};
use upcall_wire::address::{Peer, Transport};
use upcall_wire::frame::{Frame, FrameDecoder};
use upcall_wire::reason::Reason;

use crate::simulation::World;

/// How a connection ends, seen from the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Eof,
    Reset,
    /// The far end is gone, and nobody has said so.
    Silent,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Line {
    /// None once it has left.
    pub(crate) endpoint: Option<EndpointId>,
    decoder: Option<FrameDecoder>,
    /// From the client, not read yet; and its end.
    pub(crate) up: Vec<u8>,
    pub(crate) end: Option<End>,
    /// In the socket of the client.
    pub(crate) down: Vec<u8>,
    pub(crate) capacity: usize,
    pub(crate) blocked: bool,
    pub(crate) parked: bool,
    discard: bool,
    /// The client has it open.
    pub(crate) open: bool,
}

impl World {
    /// A client connects; the tag of the connection.
    pub(crate) fn accept(&mut self) -> u64 {
        let tag = self.natives.tag();
        let who = Registration {
            protocol: if self.rng.bool() { ExpectedProtocol::Auto } else { ExpectedProtocol::Native },
            tag,
            listener: 1,
            transport: Transport::Tcp,
            peer: Peer::inet(([127, 0, 0, 2], self.rng.u16(1..)).into()),
            receives: true,
            max_per_listener: None,
            max_per_source: None,
        };
        let endpoint = self.engine.register(self.now(), who);
        let refused = endpoint.err().map(|refusal| format!("upcalld: {refusal}\n").into_bytes());
        let line = Line {
            endpoint: endpoint.ok(),
            decoder: None,
            up: Vec::new(),
            end: None,
            down: refused.unwrap_or_default(),
            capacity: if self.rng.bool() || self.everybody_reads { 64 << 10 } else { self.rng.usize(1..4_000) },
            blocked: false,
            parked: false,
            discard: false,
            open: true,
        };
        self.natives.lines.insert(tag, line);
        tag
    }

    pub(crate) fn read_lines(&mut self) {
        for tag in self.natives.lines.keys().copied().collect::<Vec<_>>() {
            self.read_line(tag);
        }
        self.natives.lines.retain(|_, line| line.endpoint.is_some() || line.open);
    }

    fn read_line(&mut self, tag: u64) {
        let now = self.now();
        let everything = self.everybody_reads;
        let Some(line) = self.natives.lines.get_mut(&tag) else { return };
        let Some(id) = line.endpoint else { return };
        if line.parked {
            // Its end is seen nevertheless: epoll says so.
            if line.end == Some(End::Reset) && self.rng.u8(..8) == 0 {
                self.engine.connection_lost(now, id, Reason::Reset);
            }
            return;
        }
        if line.discard {
            line.up.clear();
        }
        let count = if everything || line.decoder.is_none() { line.up.len() } else { self.rng.usize(..=line.up.len()) };
        let chunk: Vec<u8> = line.up.drain(..count).collect();
        if let Some(0) = chunk.first()
            && line.decoder.is_none()
        {
            line.decoder = Some(FrameDecoder::default());
            self.engine.detected_native(now, id);
        }
        let Some(mut decoder) = self.natives.lines.get_mut(&tag).and_then(|line| line.decoder.take()) else {
            return self.end_of_line(tag, id);
        };
        let mut rest = &chunk[..];
        let mut any = false;
        let complete = loop {
            let turn = self.engine.request_input(now, id);
            if turn != InputTurn::Granted {
                if let Some(line) = self.natives.lines.get_mut(&tag) {
                    line.parked = turn == InputTurn::Parked;
                    line.up.splice(..0, rest.iter().copied());
                }
                break false;
            }
            match decoder.next(&mut rest, self.settings.max_message) {
                Ok(Some(Frame::Hello(hello))) => {
                    any = true;
                    let welcome = self.engine.handle_hello(now, id, &hello, self.natives.terms());
                    self.note_hello(id, &hello, welcome.as_ref().ok());
                }
                Ok(Some(frame)) => {
                    any = true;
                    self.native_frame(id, &frame);
                }
                Ok(None) => break true,
                Err(violation) => panic!("a client said something wrong: {violation}"),
            }
            if self.engine.endpoint(id).is_none_or(|endpoint| endpoint.leaving().is_some()) {
                if let Some(line) = self.natives.lines.get_mut(&tag) {
                    line.discard = true;
                }
                break false;
            }
        };
        let unfinished = decoder.is_unfinished();
        if let Some(line) = self.natives.lines.get_mut(&tag) {
            line.decoder = Some(decoder);
        }
        if any {
            self.engine.note_received(now, id, false);
        }
        if complete {
            self.engine.note_received(now, id, unfinished);
            self.end_of_line(tag, id);
        }
    }

    /// Everything is read: if that was all, the endpoint leaves.
    fn end_of_line(&mut self, tag: u64, id: EndpointId) {
        let now = self.now();
        let Some(line) = self.natives.lines.get_mut(&tag) else { return };
        if !line.up.is_empty() {
            return;
        }
        match line.end {
            Some(End::Eof) if !line.discard => {
                line.discard = true;
                self.engine.leave(now, id, Reason::Closed);
            }
            Some(End::Reset) => self.engine.connection_lost(now, id, Reason::Reset),
            Some(End::Silent) if self.everybody_reads || self.rng.u8(..50) == 0 => {
                self.engine.connection_lost(now, id, Reason::Dead);
            }
            _ => {}
        }
    }

    pub(crate) fn flush_line(&mut self, id: EndpointId, tag: u64) {
        let now = self.now();
        let Some(line) = self.natives.lines.get_mut(&tag) else { return };
        loop {
            let whole = self.engine.single_slice(id).map(<[u8]>::to_vec);
            let slices = self.engine.slices(id);
            assert!(whole.iter().all(|whole| slices.iter().flat_map(|slice| slice.iter()).eq(whole)));
            if slices.bytes() > 0 && matches!(line.end, Some(End::Reset)) {
                return self.engine.close_writes(now, id);
            }
            let room = line.capacity.saturating_sub(line.down.len());
            let written = slices.bytes().min(room).min(self.rng.usize(1..100_000));
            if written == 0 && slices.bytes() > 0 {
                line.blocked = true;
                return self.engine.blocked(now, id);
            }
            line.down.extend(slices.iter().flat_map(|slice| slice.iter()).take(written));
            if whole.is_some_and(|whole| whole.len() == written) {
                return self.engine.advance_all(now, id);
            }
            if self.engine.advance(now, id, written) == Progress::Done {
                return;
            }
        }
    }

    /// The engine has let an endpoint go.
    pub(crate) fn native_left(&mut self, endpoint: &Endpoint, reason: Reason, complete: bool) {
        let tag = endpoint.tag;
        self.natives.figures.superseded += u64::from(reason == Reason::Superseded);
        if let Some(line) = self.natives.lines.get_mut(&tag) {
            line.endpoint = None;
            line.parked = false;
            if !complete && self.rng.bool() {
                // Reset: what the client has not read is gone.
                line.down.clear();
            }
        } else if let Some(peer) = self.natives.peers.remove(&tag) {
            let over = peer.lease <= self.now + self.suspended;
            assert!(reason != Reason::LeaseExpired || over, "a lease ended early");
            if !complete {
                self.bid_farewell(peer.address, endpoint, reason);
            }
        }
    }

    /// Sockets that were full may have room again.
    pub(crate) fn sockets_have_room(&mut self) {
        for line in self.natives.lines.values_mut() {
            if line.blocked
                && line.down.len() < line.capacity
                && let Some(id) = line.endpoint
            {
                line.blocked = false;
                self.engine.writable(id);
            }
        }
        for peer in self.natives.peers.values_mut() {
            if peer.blocked && (self.everybody_reads || self.rng.u8(..4) == 0) {
                peer.blocked = false;
                self.engine.writable(peer.endpoint);
            }
        }
    }
}
