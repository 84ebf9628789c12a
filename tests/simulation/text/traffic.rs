//! What text clients send and read, and how the daemon reads and writes their sockets.

use upcall_engine::{EndpointId, ExpectedProtocol, InputTurn, Intake, Progress, Registration};
use upcall_wire::address::{Peer, Transport};

use super::client::{TextClient, TextDatagram};
use crate::input::{LoggedInput, rendered};
use crate::simulation::{LEASE, Simulation};

impl Simulation {
    pub(crate) fn connect_text(&mut self) {
        let receives = self.rng.u8(..8) != 0;
        let datagram = self.rng.u8(..3) == 0;
        let registration = Registration {
            protocol: ExpectedProtocol::Text,
            tag: 0,
            listener: 0,
            transport: if datagram { Transport::Udp } else { Transport::Tcp },
            peer: Peer::inet(([127, 0, 0, 1], self.rng.u16(1..)).into()),
            receives,
            max_per_listener: None,
            max_per_source: None,
        };
        if let Ok(id) = self.engine.register(self.now(), registration) {
            let number = self.engine.endpoint(id).unwrap().number;
            let client = TextClient {
                id,
                receives,
                joined: self.engine.next_sequence(),
                buffer: Vec::new(),
                capacity: if self.rng.bool() { 64 << 10 } else { self.rng.usize(1..4_000) },
                blocked: false,
                prompt: self.rng.u8(..3) == 0,
                stalled: false,
                ever_stalled: false,
                read: Vec::new(),
                datagrams: datagram.then(Vec::new),
                lease: self.now().boot + LEASE,
                until: None,
                ended: None,
            };
            self.clients.insert(number, client);
        }
    }

    /// One client sends a burst, until its inputs are held.
    pub(crate) fn send_text(&mut self) {
        let Some(number) = self.any_text_client() else { return };
        let id = self.clients[&number].id;
        let datagrams = self.clients[&number].datagrams.is_some();
        let largest = if self.rng.u8(..4) == 0 { 30_000 } else { 200 };
        let mut messages = Vec::new();
        for _ in 0..self.rng.usize(1..60) {
            let length = self.rng.usize(0..largest);
            messages.push(vec![self.rng.lowercase() as u8; length]);
        }
        if !datagrams && self.rng.bool() {
            return self.text_inputs(number, messages);
        }
        for data in messages {
            if datagrams {
                self.network.send(&mut self.rng, self.now, number, &TextDatagram::Input(data));
            } else if self.engine.request_input(self.now(), id) != InputTurn::Granted || !self.text_input(number, &data)
            {
                return;
            }
        }
    }

    /// Passes an input to the engine. Returns whether it was accepted.
    fn text_input(&mut self, number: u64, data: &[u8]) -> bool {
        let expected = self.inputs.len() as u64 + 1;
        let Some(accepted) = self.engine.input(self.now(), self.clients[&number].id, data) else { return false };
        assert_eq!(accepted.sequence, expected);
        self.record_text(number, data);
        true
    }

    /// Passes a run of inputs to the engine, which must accept as many as it would have accepted one at a time.
    fn text_inputs(&mut self, number: u64, messages: Vec<Vec<u8>>) {
        let (now, id) = (self.now(), self.clients[&number].id);
        let mut left = messages.iter().map(Vec::as_slice);
        let accepted = self.engine.input_lines(now, id, false, &mut left) as usize;
        let left = left.len();
        if self.engine.endpoint(id).is_some_and(|endpoint| endpoint.leaving().is_none()) {
            assert_eq!(accepted + left, messages.len());
            assert!(left == 0 || self.engine.request_input(now, id) != InputTurn::Granted);
        }
        for data in &messages[..accepted] {
            self.record_text(number, data);
        }
        assert_eq!(self.engine.next_sequence(), self.inputs.len() as u64 + 1);
    }

    fn record_text(&mut self, number: u64, data: &[u8]) {
        let rendered = rendered(self.inputs.len() as u64 + 1, data);
        let (audience, topic, data) = (self.settings.audience, String::new(), data.to_vec());
        self.inputs.push(LoggedInput { source: number, audience, topic, data, rendered });
    }

    /// Passes datagrams that have arrived to the engine. Every datagram renews the lease; inputs are dropped unless the
    /// intake is open.
    pub(crate) fn deliver_text(&mut self) {
        let now = self.now();
        for (number, packet) in self.network.take_arrived(self.now) {
            let client = self.clients.get_mut(&number).unwrap();
            if client.until.is_some() || client.ended.is_some() {
                continue;
            }
            self.engine.renew(now, client.id);
            client.lease = now.boot + LEASE;
            if let TextDatagram::Input(data) = packet
                && self.engine.intake() == Intake::Open
            {
                self.text_input(number, &data);
            }
        }
    }

    pub(crate) fn flush_text(&mut self, id: EndpointId) {
        let now = self.now();
        let Some(number) = self.engine.endpoint(id).map(|endpoint| endpoint.number) else { return };
        if self.clients[&number].datagrams.is_some() {
            return self.flush_datagrams(id, number);
        }
        let client = self.clients.get_mut(&number).unwrap();
        loop {
            let whole = self.engine.single_slice(id).map(<[u8]>::to_vec);
            let slices = self.engine.slices(id);
            assert!(whole.iter().all(|whole| slices.iter().flat_map(|slice| slice.iter()).eq(whole)));
            let room = client.capacity.saturating_sub(client.buffer.len());
            let written = slices.bytes().min(room).min(self.rng.usize(1..100_000));
            if written == 0 && slices.bytes() > 0 {
                client.blocked = true;
                self.engine.blocked(now, id);
                return;
            }
            client.buffer.extend(slices.iter().flat_map(|slice| slice.iter()).take(written));
            if client.prompt {
                client.read.append(&mut client.buffer);
            }
            if whole.is_some_and(|whole| whole.len() == written) {
                return self.engine.advance_all(now, id);
            }
            if self.engine.advance(now, id, written) == Progress::Done {
                return;
            }
        }
    }

    /// Sends datagrams in runs of random length. The socket of a stalled client accepts none.
    fn flush_datagrams(&mut self, id: EndpointId, number: u64) {
        let now = self.now();
        let client = self.clients.get_mut(&number).unwrap();
        let sent = client.datagrams.as_mut().unwrap();
        loop {
            let (max_bytes, max_count) = (self.rng.usize(1..60_000), self.rng.usize(1..64));
            let Some(run) = self.engine.datagram_run(id, max_bytes, max_count) else {
                assert_eq!(self.engine.advance_run(now, id, 0, true), Progress::Done);
                return;
            };
            assert!(run.count == 1 || run.bytes.len() <= max_bytes);
            if client.stalled && !client.prompt && !self.all_read {
                self.engine.blocked(now, id);
                client.blocked = true;
                return;
            }
            let count = self.rng.usize(1..=run.count);
            let size = run.bytes.len() / run.count;
            sent.extend(run.bytes.chunks(size).take(count).map(<[u8]>::to_vec));
            if self.engine.advance_run(now, id, count, true) == Progress::Done {
                return;
            }
        }
    }

    pub(crate) fn read_text(&mut self) {
        for client in self.clients.values_mut() {
            let bytes = match (client.prompt || self.all_read, client.stalled) {
                (true, _) => client.buffer.len(),
                (false, true) => 0,
                (false, false) => self.rng.usize(0..=client.buffer.len()),
            };
            client.read.extend(client.buffer.drain(..bytes));
            // Epoll does not report room in a datagram socket reliably: a timer retries.
            let retry = client.datagrams.is_some() && (self.all_read || self.rng.bool());
            if (bytes > 0 || retry) && std::mem::take(&mut client.blocked) {
                self.engine.writable(client.id);
            }
        }
    }
}
