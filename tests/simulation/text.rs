//! Text clients: what they say and read, and what must be true of them in the end.

use std::hash::{DefaultHasher, Hash, Hasher};

use upcall_engine::{EndpointId, ExpectedProtocol, InputTurn, Intake, Progress, Registration, Time};
use upcall_wire::address::{Peer, Transport};
use upcall_wire::farewell::Farewell;
use upcall_wire::reason::Reason;

use crate::world::{Input, LEASE, World};

/// What a datagram client sends.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    /// It renews its lease.
    Renewal,
    /// It says something.
    Input(Vec<u8>),
}

/// The far end of an endpoint: a socket's buffer, and what was read from it.
pub(crate) struct Client {
    pub(crate) id: EndpointId,
    pub(crate) receives: bool,
    /// The sequence that was next when it was registered.
    pub(crate) joined: u64,
    pub(crate) buffer: Vec<u8>,
    pub(crate) capacity: usize,
    pub(crate) blocked: bool,
    /// Whether it reads everything at once, always: nobody may ever cut it off.
    pub(crate) prompt: bool,
    pub(crate) stalled: bool,
    pub(crate) ever_stalled: bool,
    pub(crate) read: Vec<u8>,
    /// Datagrams that were sent to it, where it is a datagram endpoint.
    pub(crate) datagrams: Option<Vec<Vec<u8>>>,
    /// When its lease ends, on the clock that counts suspend.
    pub(crate) lease: Time,
    /// The sequence that was next when it left, or was told to; and how it ended.
    pub(crate) until: Option<u64>,
    pub(crate) ended: Option<(Reason, bool)>,
}

impl World {
    pub(crate) fn connect_text(&mut self) {
        let receives = self.rng.u8(..8) != 0;
        let datagram = self.rng.u8(..3) == 0;
        let who = Registration {
            protocol: ExpectedProtocol::Text,
            tag: 0,
            listener: 0,
            transport: if datagram { Transport::Udp } else { Transport::Tcp },
            peer: Peer::inet(([127, 0, 0, 1], self.rng.u16(1..)).into()),
            receives,
            max_per_listener: None,
            max_per_source: None,
        };
        if let Ok(id) = self.engine.register(self.now(), who) {
            let number = self.engine.endpoint(id).unwrap().number;
            let client = Client {
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

    /// One client sends a burst, as far as it is let.
    pub(crate) fn send_text(&mut self) {
        let Some(number) = self.somebody() else { return };
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
                self.network.send(&mut self.rng, self.now, number, &Packet::Input(data));
            } else if self.engine.request_input(self.now(), id) != InputTurn::Granted || !self.text_input(number, &data)
            {
                return;
            }
        }
    }

    /// Hands an input to the engine; says whether it was taken.
    fn text_input(&mut self, number: u64, data: &[u8]) -> bool {
        let expected = self.inputs.len() as u64 + 1;
        let Some(accepted) = self.engine.input(self.now(), self.clients[&number].id, data) else { return false };
        assert_eq!(accepted.sequence, expected);
        self.note_text(number, data);
        true
    }

    /// Hands a run of inputs to the engine, which takes as many as it would have taken one by one.
    fn text_inputs(&mut self, number: u64, messages: Vec<Vec<u8>>) {
        let (now, id) = (self.now(), self.clients[&number].id);
        let mut left = messages.iter().map(Vec::as_slice);
        let taken = self.engine.input_lines(now, id, &mut left) as usize;
        let left = left.len();
        if self.engine.endpoint(id).is_some_and(|endpoint| endpoint.leaving().is_none()) {
            assert_eq!(taken + left, messages.len());
            assert!(left == 0 || self.engine.request_input(now, id) != InputTurn::Granted);
        }
        for data in &messages[..taken] {
            self.note_text(number, data);
        }
        assert_eq!(self.engine.next_sequence(), self.inputs.len() as u64 + 1);
    }

    fn note_text(&mut self, number: u64, data: &[u8]) {
        let rendered = rendered(self.inputs.len() as u64 + 1, data);
        let (audience, topic, data) = (self.settings.audience, String::new(), data.to_vec());
        self.inputs.push(Input { source: number, audience, topic, data, rendered });
    }

    /// What has come through the network reaches the engine, as far as it takes it. Every datagram renews.
    pub(crate) fn deliver_text(&mut self) {
        let now = self.now();
        for (number, packet) in self.network.arrived(self.now) {
            let client = self.clients.get_mut(&number).unwrap();
            if client.until.is_some() || client.ended.is_some() {
                continue;
            }
            self.engine.renew(now, client.id);
            client.lease = now.boot + LEASE;
            if let Packet::Input(data) = packet
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

    /// Sends datagrams, in runs of any length; one that is stalled takes none.
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
            if client.stalled && !client.prompt && !self.everybody_reads {
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
            let bytes = match (client.prompt || self.everybody_reads, client.stalled) {
                (true, _) => client.buffer.len(),
                (false, true) => 0,
                (false, false) => self.rng.usize(0..=client.buffer.len()),
            };
            client.read.extend(client.buffer.drain(..bytes));
            // A datagram socket does not say when there is room: a timer tries again.
            let retry = client.datagrams.is_some() && (self.everybody_reads || self.rng.bool());
            if (bytes > 0 || retry) && std::mem::take(&mut client.blocked) {
                self.engine.writable(client.id);
            }
        }
    }

    /// Received, and the named reason for what is missing, make what was due.
    pub(crate) fn check_text(&self) -> u64 {
        let mut trace = DefaultHasher::new();
        for (number, client) in &self.clients {
            let (reason, complete) = client.ended.expect("everybody has left");
            let until = client.until.unwrap_or(u64::MAX);
            let due = self.inputs.iter().zip(1u64..).filter(|(input, sequence)| {
                client.receives && input.is_for(*number) && (client.joined..until).contains(sequence)
            });
            if let Some(sent) = &client.datagrams {
                let farewell = reason.is_announced().then(|| Farewell::line(reason.name()).into_bytes());
                let mut expected = due.map(|(input, _)| &input.rendered).chain(farewell.as_ref());
                let in_order = sent.iter().all(|datagram| expected.any(|due| due == datagram));
                assert!(in_order, "#{number} was sent something that was not due, or not in order");
                let all = complete && (client.prompt || !client.ever_stalled);
                assert!(!all || expected.next().is_none(), "#{number} was not sent everything");
                (number, reason, complete, sent).hash(&mut trace);
                continue;
            }
            let due = plain(&due.flat_map(|(input, _)| input.rendered.iter().copied()).collect::<Vec<_>>());
            let last_line = if reason.is_announced() { Farewell::line(reason.name()) } else { String::new() };
            let (read, last_line) = (plain(&client.read), last_line.trim_end());
            match (complete, reason) {
                (true, Reason::SlowConsumer) => {
                    let upcalls = read.strip_suffix(last_line.as_bytes()).expect("the reason is the last line");
                    assert!(due.starts_with(upcalls), "#{number} got something else than what was due");
                    assert!(upcalls.is_empty() || upcalls.ends_with(b">"), "#{number} was cut off inside a record");
                }
                (true, _) => assert_eq!(read, [&due, last_line.as_bytes()].concat(), "#{number}"),
                (false, _) => {
                    // One that was cut off may be lost before it has read the whole farewell.
                    let cut = Farewell::line(Reason::SlowConsumer.name());
                    let got_less = [last_line, cut.trim_end()].iter().any(|line| {
                        (0..=line.len()).any(|part| {
                            let upcalls = read.strip_suffix(&line.as_bytes()[..part]);
                            upcalls.is_some_and(|upcalls| due.starts_with(upcalls))
                        })
                    });
                    assert!(got_less, "#{number} got something else than what was due");
                }
            }
            (number, reason, complete, &client.read).hash(&mut trace);
        }
        trace.finish()
    }
}

/// As text endpoints get it.
pub(crate) fn rendered(sequence: u64, data: &[u8]) -> Vec<u8> {
    [format!("<{sequence} ").as_bytes(), data, b">"].concat()
}

/// Without newlines: the last line begins with one of its own, unless the upcall before ended in one, as those of native
/// inputs do. Datagrams are compared with them.
fn plain(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| *byte != b'\n').collect()
}
