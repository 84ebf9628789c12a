//! The world around an engine: clocks, settings, and the turns of a daemon; what happens at random, and how it all ends.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use upcall_engine::{Audience, Counters, EndpointId, Engine, Entropy, Event, Now, Patience, Policy, Settings, Time};
use upcall_wire::format::Format;
use upcall_wire::reason::Reason;

use crate::native::Natives;
use crate::network::{Network, Weather};
use crate::text::{Client, Packet};

const LOG: usize = 1 << 20;
pub(crate) const MAX_BEHIND: u64 = 256 << 10;
pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// An input, as it was appended.
pub(crate) struct Input {
    pub(crate) source: u64,
    pub(crate) audience: Audience,
    pub(crate) topic: String,
    pub(crate) data: Vec<u8>,
    pub(crate) rendered: Vec<u8>,
}

impl Input {
    /// Whether its audience is, or includes, the endpoint of this number.
    pub(crate) fn is_for(&self, number: u64) -> bool {
        match self.audience {
            Audience::All => true,
            Audience::Others => self.source != number,
            Audience::Sender => self.source == number,
        }
    }
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) engine: Engine,
    pub(crate) network: Network<Packet>,
    pub(crate) settings: Settings,
    pub(crate) now: Time,
    /// How much further the clock is that counts suspend, and what the wall clock says.
    pub(crate) suspended: Duration,
    wall: SystemTime,
    /// Text clients, by number.
    pub(crate) clients: BTreeMap<u64, Client>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) everybody_reads: bool,
    pub(crate) natives: Natives,
    /// Those of the daemons before this one.
    pub(crate) past: Vec<Counters>,
    trace: DefaultHasher,
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
            session_ttl: Duration::from_secs([2, 20, 300][rng.usize(..3)]),
            format: Format::parse("<{seq} {data}>").unwrap(),
            audience: Audience::All,
            max_endpoints: 40,
            lease: LEASE,
            message_timeout: Some(Duration::from_secs(30)),
            max_behind: MAX_BEHIND,
            patience,
            policy: if rng.bool() { Policy::Skip } else { Policy::Disconnect },
            farewell: Duration::from_secs(5),
        };
        let engine = Engine::new(settings.clone(), LOG, Entropy::seeded(rng.u64(..)));
        let weather = Weather { loss: 20, repeats: 10, delay: Duration::from_millis(500) };
        World {
            engine,
            network: Network::new(weather),
            settings,
            now: Time(0),
            suspended: Duration::ZERO,
            wall: SystemTime::UNIX_EPOCH,
            clients: BTreeMap::new(),
            inputs: Vec::new(),
            everybody_reads: false,
            natives: Natives::new(&mut rng),
            past: Vec::new(),
            trace: DefaultHasher::new(),
            rng,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now { time: self.now, boot: self.now + self.suspended, wall: self.wall }
    }

    /// A text client that has not been told to leave.
    pub(crate) fn somebody(&mut self) -> Option<u64> {
        let present: Vec<u64> =
            self.clients.iter().filter(|(_, c)| c.until.is_none()).map(|(number, _)| *number).collect();
        self.rng.choice(present)
    }

    /// What a driver does at the end of a turn: writes as far as the sockets take it, twice because policies may act.
    pub(crate) fn end_turn(&mut self) {
        for _ in 0..2 {
            let mut ready = Vec::new();
            self.engine.take_ready(&mut ready);
            for id in ready {
                match self.engine.endpoint(id).map(|endpoint| endpoint.tag) {
                    Some(0) => self.flush_text(id),
                    Some(tag) => self.flush_native(id, tag),
                    None => {}
                }
            }
            self.look_at_the_late();
            self.engine.end_turn(self.now());
            self.look_at_the_late();
            self.events();
        }
        self.check_engine();
    }

    fn check_engine(&self) {
        self.engine.check_invariants();
        let (used, size) = self.engine.log_memory();
        assert!(used <= size);
    }

    pub(crate) fn events(&mut self) {
        while let Some(event) = self.engine.next_event() {
            match event {
                Event::Left { endpoint, reason, complete } if endpoint.tag > 0 => {
                    self.native_left(&endpoint, reason, complete);
                }
                Event::Left { endpoint, reason, complete } => {
                    let next = self.engine.next_sequence();
                    let client = self.clients.get_mut(&endpoint.number).unwrap();
                    assert!(client.ended.replace((reason, complete)).is_none());
                    client.until.get_or_insert(next);
                    let over = client.lease <= self.now + self.suspended;
                    assert!(reason != Reason::LeaseExpired || over, "a lease ended early");
                    assert!(!(client.prompt && reason == Reason::SlowConsumer), "a prompt reader was cut off");
                }
                Event::Unparked(tag) => self.unpark(tag),
                Event::InputsHeld(number) => self.waits_for(number),
                _ => {}
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
        match self.rng.u8(..48) {
            0..=1 => self.connect_text(),
            2..=9 => self.send_text(),
            10..=15 => self.read_text(),
            16..=20 => self.text_happens(),
            21..=34 => self.native_happens(),
            35 => {
                self.settings.audience = [Audience::All, Audience::Others, Audience::Sender][self.rng.usize(..3)];
                self.engine.reconfigure(self.now(), self.settings.clone());
            }
            36 if self.rng.u8(..4) == 0 => {
                // The wall clock is set, or the machine was suspended: leases count the one and not the other.
                match self.rng.bool() {
                    true => self.wall = SystemTime::UNIX_EPOCH + Duration::from_secs(self.rng.u64(..1 << 32)),
                    false => self.suspended += Duration::from_secs(self.rng.u64(..4)),
                }
                self.engine.expire(self.now());
                self.leases_are_on_time();
            }
            37 if self.rng.u8(..16) == 0 => self.restart(),
            38 => {
                // Everything stood still for a while, and is late now.
                self.now = self.now + Duration::from_millis(self.rng.u64(..3_000));
                self.pass();
            }
            _ => {
                let pause = Duration::from_millis(self.rng.u64(0..400));
                self.run(pause);
            }
        }
        self.events();
        if self.rng.bool() {
            self.end_turn();
        }
        self.check_engine_between();
    }

    fn check_engine_between(&mut self) {
        self.look_at_the_late();
        self.engine.check_invariants();
    }

    /// Something happens to a text client.
    fn text_happens(&mut self) {
        let now = self.now();
        let Some(number) = self.somebody() else { return };
        match self.rng.u8(..5) {
            0 => {
                let stalled = self.rng.bool();
                let client = self.clients.get_mut(&number).unwrap();
                (client.stalled, client.ever_stalled) = (stalled, client.ever_stalled | stalled);
            }
            1 => {
                let reasons = [Reason::Closed, Reason::Closed, Reason::Http, Reason::MessageTooLarge];
                let reason = reasons[self.rng.usize(..reasons.len())];
                let id = self.told_to_leave(number);
                self.engine.leave(now, id, reason);
            }
            2 => {
                let id = self.told_to_leave(number);
                if self.rng.bool() {
                    return self.engine.connection_lost(now, id, Reason::Reset);
                }
                self.engine.close_writes(now, id);
                match self.rng.bool() {
                    true => self.engine.leave(now, id, Reason::Closed),
                    false => self.engine.connection_lost(now, id, Reason::Dead),
                }
            }
            3 => {
                let unfinished = self.rng.bool();
                self.engine.note_received(now, self.clients[&number].id, unfinished);
            }
            _ => {
                for (number, client) in self.clients.iter().filter(|(_, client)| client.until.is_none()) {
                    if client.datagrams.is_some() && self.rng.bool() {
                        self.network.send(&mut self.rng, self.now, *number, &Packet::Renewal);
                    }
                }
            }
        }
    }

    /// Lets time pass, and everything happen when it is due.
    pub(crate) fn run(&mut self, pause: Duration) {
        let until = self.now + pause;
        let mut last = None;
        while let Some(next) = self.next_due().filter(|next| *next <= until) {
            let next = next.max(self.now);
            // What is due again at once has to wait for a millisecond, as it would for the next turn.
            self.now = if last == Some(next) { next + Duration::from_millis(1) } else { next };
            last = Some(self.now);
            if self.now > until {
                break;
            }
            self.pass();
            self.end_turn();
        }
        self.now = self.now.max(until);
        self.pass();
    }

    fn next_due(&self) -> Option<Time> {
        [self.engine.deadline(), self.network.next(), self.native_due()].into_iter().flatten().min()
    }

    /// What is due by now happens.
    fn pass(&mut self) {
        self.deliver_text();
        self.natives_pass();
        self.engine.expire(self.now());
        self.leases_are_on_time();
    }

    fn leases_are_on_time(&mut self) {
        self.events();
        let now = self.now().boot;
        let texts = self.clients.values().filter(|client| client.datagrams.is_some() && client.ended.is_none());
        for (id, lease) in texts.map(|client| (client.id, client.lease)) {
            // While inputs were held, its renewals might have been waiting to be read.
            let extended = self.engine.lease(id);
            let extended = self.engine.counters().waits > 0 && extended.is_some_and(|lease| lease > now);
            assert!(lease > now || extended, "the lease of {id:?} should have ended");
        }
        for (id, lease) in self.native_leases() {
            assert!(lease > now, "the lease of {id:?} should have ended");
        }
        assert!(self.engine.lease_deadline().is_none_or(|deadline| deadline > now));
    }

    /// The daemon is killed, and a new one begins.
    fn restart(&mut self) {
        for number in self.clients.keys().copied().collect::<Vec<_>>() {
            if self.clients[&number].ended.is_none() {
                let id = self.clients[&number].id;
                self.engine.connection_lost(self.now(), id, Reason::Reset);
            }
        }
        self.events();
        self.everybody_reads = true;
        self.read_text();
        self.everybody_reads = false;
        self.check_text().hash(&mut self.trace);
        self.clients.clear();
        self.past.push(self.engine.counters().clone());
        self.engine = Engine::new(self.settings.clone(), LOG, Entropy::seeded(self.rng.u64(..)));
        let weather = self.network.weather;
        let before = std::mem::replace(&mut self.network, Network::new(weather));
        (self.network.lost, self.network.repeated, self.network.overtaken) =
            (before.lost, before.repeated, before.overtaken);
        let inputs = std::mem::take(&mut self.inputs);
        self.daemon_restarts(inputs);
    }

    /// Everybody reads again; everything arrives; everything ends.
    pub(crate) fn finish(&mut self) -> u64 {
        self.end_turn();
        self.everybody_reads = true;
        self.clients.values_mut().for_each(|client| client.capacity = 64 << 10);
        self.natives_settle();
        let numbers: Vec<u64> = self.clients.keys().copied().collect();
        for number in numbers {
            if self.clients[&number].until.is_none() {
                let id = self.told_to_leave(number);
                self.engine.leave(self.now(), id, Reason::Shutdown);
            }
        }
        self.natives_leave();
        for _ in 0..100_000 {
            if self.engine.is_empty() {
                break;
            }
            self.read_text();
            self.end_turn();
            if !self.natives.is_quiet() {
                self.run(Duration::from_millis(20));
            }
        }
        let stuck: Vec<_> = self.engine.endpoints().collect();
        assert!(stuck.is_empty(), "somebody did not leave: {stuck:?}");
        self.read_text();
        self.check_text().hash(&mut self.trace);
        self.check_natives().hash(&mut self.trace);
        self.trace.finish()
    }

    /// What all daemons have counted.
    pub(crate) fn counted(&self, what: impl Fn(&Counters) -> u64) -> u64 {
        self.past.iter().chain([self.engine.counters()]).map(what).sum()
    }
}
