//! The world around an engine: clients, clocks, sockets; what they do at random, and what must be true in the end.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use upcalld::address::{Peer, Transport};
use upcalld::engine::{
    Audience, EndpointId, Engine, Entropy, Event, Intake, Now, Opening, Patience, Policy, Progress, Registration,
    Settings, Time, Turn,
};
use upcalld::wire::format::Format;
use upcalld::wire::reason::{Reason, farewell};

use crate::network::{Network, Packet};

const LOG: usize = 1 << 20;
const MAX_BEHIND: u64 = 256 << 10;
const LEASE: Duration = Duration::from_secs(3);

/// The far end of an endpoint: a socket's buffer, and what was read from it.
struct Client {
    id: EndpointId,
    receives: bool,
    /// The sequence that was next when it was registered.
    joined: u64,
    buffer: Vec<u8>,
    capacity: usize,
    blocked: bool,
    /// Whether it reads everything at once, always: nobody may ever cut it off.
    prompt: bool,
    stalled: bool,
    ever_stalled: bool,
    read: Vec<u8>,
    /// Datagrams that were sent to it, where it is a datagram endpoint.
    datagrams: Option<Vec<Vec<u8>>>,
    /// When its lease ends, on the clock that counts suspend.
    lease: Time,
    /// The sequence that was next when it left, or was told to; and how it ended.
    until: Option<u64>,
    ended: Option<(Reason, bool)>,
}

struct Input {
    source: u64,
    audience: Audience,
    rendered: Vec<u8>,
}

pub(crate) struct World {
    rng: Rng,
    pub(crate) engine: Engine,
    pub(crate) network: Network,
    settings: Settings,
    now: Time,
    /// How much further the clock is that counts suspend, and what the wall clock says.
    suspended: Duration,
    wall: SystemTime,
    clients: BTreeMap<u64, Client>,
    inputs: Vec<Input>,
    everybody_reads: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut rng = Rng::with_seed(seed);
        let patience = match rng.u8(..4) {
            0 => Patience::Limited(Duration::ZERO),
            1 => Patience::Forever,
            _ => Patience::Limited(Duration::from_millis(rng.u64(1..2_000))),
        };
        let settings = Settings {
            max_message: 60 << 10,
            session_ttl: Duration::from_secs(300),
            format: Format::parse("<{seq} {data}>").unwrap(),
            audience: Audience::All,
            max_endpoints: 40,
            lease: LEASE,
            message_timeout: Some(Duration::from_secs(30)),
            max_behind: MAX_BEHIND,
            patience,
            policy: Policy::Disconnect,
            farewell: Duration::from_secs(5),
        };
        let engine = Engine::new(settings.clone(), LOG, Entropy::seeded(7));
        World {
            rng,
            engine,
            network: Network::default(),
            settings,
            now: Time(0),
            suspended: Duration::ZERO,
            wall: SystemTime::UNIX_EPOCH,
            clients: BTreeMap::new(),
            inputs: Vec::new(),
            everybody_reads: false,
        }
    }

    fn now(&self) -> Now {
        Now { time: self.now, boot: self.now + self.suspended, wall: self.wall }
    }

    fn connect(&mut self) {
        let tag = self.inputs.len() as u64;
        let receives = self.rng.u8(..8) != 0;
        let datagram = self.rng.u8(..3) == 0;
        let who = Registration {
            opening: Opening::Text,
            tag,
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

    /// A client that has not been told to leave.
    fn somebody(&mut self) -> Option<u64> {
        let present: Vec<u64> =
            self.clients.iter().filter(|(_, c)| c.until.is_none()).map(|(number, _)| *number).collect();
        self.rng.choice(present)
    }

    /// One client sends a burst, as far as it is let.
    fn send(&mut self) {
        let Some(number) = self.somebody() else { return };
        let id = self.clients[&number].id;
        let datagrams = self.clients[&number].datagrams.is_some();
        let largest = if self.rng.u8(..4) == 0 { 30_000 } else { 200 };
        for _ in 0..self.rng.usize(1..60) {
            let length = self.rng.usize(0..largest);
            let data = vec![self.rng.lowercase() as u8; length];
            if datagrams {
                self.network.send(&mut self.rng, self.now, number, &Packet::Input(data));
            } else if self.engine.turn_of(self.now(), id) != Turn::Yes || !self.input(number, &data) {
                return;
            }
        }
    }

    /// Hands an input to the engine; says whether it was taken.
    fn input(&mut self, number: u64, data: &[u8]) -> bool {
        let expected = self.inputs.len() as u64 + 1;
        let Some(accepted) = self.engine.input(self.now(), self.clients[&number].id, data) else { return false };
        assert_eq!(accepted.sequence, expected);
        let rendered = [format!("<{expected} ").as_bytes(), data, b">"].concat();
        self.inputs.push(Input { source: number, audience: self.settings.audience, rendered });
        true
    }

    /// What has come through the network reaches the engine, as far as it takes it. Every datagram renews.
    fn deliver(&mut self) {
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
                self.input(number, &data);
            }
        }
    }

    /// What a driver does at the end of a turn: writes as far as the sockets take it, twice because policies may act.
    fn end_turn(&mut self) {
        for _ in 0..2 {
            let mut ready = Vec::new();
            self.engine.take_ready(&mut ready);
            for id in ready {
                self.flush(id);
            }
            self.engine.end_turn(self.now());
            self.events();
        }
        self.engine.check_invariants();
        let (used, size) = self.engine.log_memory();
        assert!(used <= size);
    }

    fn flush(&mut self, id: EndpointId) {
        let now = self.now();
        let Some(number) = self.engine.endpoint(id).map(|endpoint| endpoint.number) else { return };
        if self.clients[&number].datagrams.is_some() {
            return self.flush_datagrams(id, number);
        }
        let client = self.clients.get_mut(&number).unwrap();
        loop {
            let slices = self.engine.slices(id);
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
            let Some(run) = self.engine.run(id, max_bytes, max_count) else {
                assert_eq!(self.engine.pass(now, id, 0, true), Progress::Done);
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
            if self.engine.pass(now, id, count, true) == Progress::Done {
                return;
            }
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.engine.next_event() {
            if let Event::Left { endpoint, reason, complete } = event {
                let next = self.engine.next_sequence();
                let client = self.clients.get_mut(&endpoint.number).unwrap();
                assert!(client.ended.replace((reason, complete)).is_none());
                client.until.get_or_insert(next);
                let over = client.lease <= self.now + self.suspended;
                assert!(reason != Reason::LeaseExpired || over, "a lease ended early");
                assert!(!(client.prompt && reason == Reason::SlowConsumer), "a prompt reader was cut off");
            }
        }
    }

    fn read(&mut self) {
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

    fn told_to_leave(&mut self, number: u64) -> EndpointId {
        let next = self.engine.next_sequence();
        let client = self.clients.get_mut(&number).unwrap();
        client.until = Some(next);
        client.id
    }

    pub(crate) fn step(&mut self) {
        let now = self.now();
        match self.rng.u8(..32) {
            0..=2 => self.connect(),
            3..=12 => self.send(),
            13..=22 => self.read(),
            23 => {
                let stalled = self.rng.bool();
                if let Some(number) = self.somebody() {
                    let client = self.clients.get_mut(&number).unwrap();
                    (client.stalled, client.ever_stalled) = (stalled, client.ever_stalled | stalled);
                }
            }
            24 => {
                let reasons = [Reason::Closed, Reason::Closed, Reason::Http, Reason::MessageTooLarge];
                let reason = reasons[self.rng.usize(..reasons.len())];
                if let Some(number) = self.somebody() {
                    let id = self.told_to_leave(number);
                    self.engine.leave(now, id, reason);
                }
            }
            25 => {
                if let Some(number) = self.somebody() {
                    let id = self.told_to_leave(number);
                    self.engine.lost(now, id, Reason::Reset);
                }
            }
            26 => {
                if let Some(number) = self.somebody() {
                    let id = self.told_to_leave(number);
                    self.engine.deafen(now, id);
                    if self.rng.bool() {
                        self.engine.leave(now, id, Reason::Closed);
                    } else {
                        self.engine.lost(now, id, Reason::Dead);
                    }
                }
            }
            27 => {
                self.settings.audience = [Audience::All, Audience::Others, Audience::Sender][self.rng.usize(..3)];
                self.engine.reconfigure(now, self.settings.clone());
            }
            28 => {
                if let Some(number) = self.somebody() {
                    let unfinished = self.rng.bool();
                    self.engine.heard(now, self.clients[&number].id, unfinished);
                }
            }
            29 => {
                for (number, client) in self.clients.iter().filter(|(_, client)| client.until.is_none()) {
                    if client.datagrams.is_some() && self.rng.bool() {
                        self.network.send(&mut self.rng, self.now, *number, &Packet::Renewal);
                    }
                }
            }
            30 if self.rng.u8(..4) == 0 => {
                // The wall clock is set, or the machine was suspended: leases count the one and not the other.
                match self.rng.bool() {
                    true => self.wall = SystemTime::UNIX_EPOCH + Duration::from_secs(self.rng.u64(..1 << 32)),
                    false => self.suspended += Duration::from_secs(self.rng.u64(..4)),
                }
                self.engine.expire(self.now());
                self.leases_are_on_time();
            }
            _ => {
                self.now = self.now + Duration::from_millis(self.rng.u64(0..400));
                self.deliver();
                self.engine.expire(self.now());
                self.leases_are_on_time();
            }
        }
        self.events();
        if self.rng.bool() {
            self.end_turn();
        }
    }

    fn leases_are_on_time(&mut self) {
        self.events();
        let now = self.now().boot;
        for (number, client) in &self.clients {
            let over = client.datagrams.is_some() && client.lease <= now;
            // While inputs were held, its renewals might have been waiting to be read.
            let extended = self.engine.endpoint(client.id).and_then(|endpoint| endpoint.lease());
            let extended = self.engine.counters().waits > 0 && extended.is_some_and(|lease| lease > now);
            assert!(!over || client.ended.is_some() || extended, "the lease of #{number} should have ended");
        }
        assert!(self.engine.lease_deadline().is_none_or(|deadline| deadline > now));
    }

    /// Everybody reads again; everything ends.
    pub(crate) fn finish(&mut self) {
        self.end_turn();
        let numbers: Vec<u64> = self.clients.keys().copied().collect();
        for number in numbers {
            if self.clients[&number].until.is_none() {
                let id = self.told_to_leave(number);
                self.engine.leave(self.now(), id, Reason::Shutdown);
            }
        }
        self.everybody_reads = true;
        self.clients.values_mut().for_each(|client| client.capacity = 64 << 10);
        for _ in 0..100_000 {
            if self.engine.is_empty() {
                break;
            }
            self.read();
            self.end_turn();
        }
        let stuck: Vec<_> = self.engine.endpoints().collect();
        assert!(stuck.is_empty(), "somebody did not leave: {stuck:?}");
        self.read();
    }

    /// Received, and the named reason for what is missing, make what was due.
    pub(crate) fn check(&self) -> u64 {
        let mut trace = DefaultHasher::new();
        for (number, client) in &self.clients {
            let (reason, complete) = client.ended.expect("everybody has left");
            let until = client.until.unwrap_or(u64::MAX);
            let due = self.inputs.iter().zip(1u64..).filter(|(input, sequence)| {
                let is_due = match input.audience {
                    Audience::All => true,
                    Audience::Others => input.source != *number,
                    Audience::Sender => input.source == *number,
                };
                client.receives && is_due && (client.joined..until).contains(sequence)
            });
            if let Some(sent) = &client.datagrams {
                let farewell = reason.is_announced().then(|| farewell(reason.name()).into_bytes());
                let mut expected = due.map(|(input, _)| &input.rendered).chain(farewell.as_ref());
                let in_order = sent.iter().all(|datagram| expected.any(|due| due == datagram));
                assert!(in_order, "#{number} was sent something that was not due, or not in order");
                let all = complete && (client.prompt || !client.ever_stalled);
                assert!(!all || expected.next().is_none(), "#{number} was not sent everything");
                (number, reason, complete, sent).hash(&mut trace);
                continue;
            }
            let due: Vec<u8> = due.flat_map(|(input, _)| input.rendered.iter().copied()).collect();
            let last_line = if reason.is_announced() { farewell(reason.name()) } else { String::new() };
            let read = without_break(&client.read, &last_line);
            match (complete, reason) {
                (true, Reason::SlowConsumer) => {
                    let upcalls = read.strip_suffix(last_line.as_bytes()).expect("the reason is the last line");
                    assert!(due.starts_with(upcalls), "#{number} got something else than what was due");
                    assert!(upcalls.is_empty() || upcalls.ends_with(b">"), "#{number} was cut off inside a record");
                }
                (true, _) => assert_eq!(read, [&due, last_line.as_bytes()].concat(), "#{number}"),
                (false, _) => {
                    // One that was cut off may be lost before it has read the whole farewell.
                    let cut = farewell(Reason::SlowConsumer.name());
                    let got_less = [last_line, cut].iter().any(|line| {
                        (0..=line.len()).any(|part| {
                            let read = without_break(&client.read, &line[..part]);
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

/// What was read, without the newline that makes the last line one of its own: no upcall here ends in one.
fn without_break(read: &[u8], last_line: &str) -> Vec<u8> {
    match read.strip_suffix(last_line.as_bytes()).and_then(|upcalls| upcalls.strip_suffix(b"\n")) {
        Some(upcalls) => [upcalls, last_line.as_bytes()].concat(),
        None => read.to_vec(),
    }
}
