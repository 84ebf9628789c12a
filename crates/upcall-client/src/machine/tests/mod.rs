//! The client's half against a tiny daemon, over a network that loses, doubles, reorders, cuts and breaks: same seed, same
//! run.

mod model;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::*;
use model::Model;
use proptest::prelude::*;
use upcall_wire::frame::{Frame, Welcome};

/// A step of virtual time.
const STEP: Duration = Duration::from_millis(20);

/// What the network does, each in percent.
#[derive(Debug, Clone, Copy)]
struct Weather {
    loss: u8,
    doubled: u8,
    late: u8,
    /// In steps of which one breaks the connection or silences the daemon for a while; 0 for never.
    breaks: u32,
    /// The same, for daemons that forget everything.
    crashes: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Receipt(u64),
    Unknown,
}

struct World {
    now: Instant,
    machine: Machine,
    model: Model,
    weather: Weather,
    random: Rng,
    /// Bytes under way: to whom, and for how many steps.
    way: Vec<(bool, u32, Vec<u8>)>,
    fates: BTreeMap<u64, Fate>,
    /// What was handed to the application of the present log.
    told: Vec<(u64, u64)>,
    reconnect_in: Option<u32>,
    posted: u64,
    appended: BTreeSet<Vec<u8>>,
}

impl World {
    fn new(datagrams: bool, weather: Weather, seed: u64) -> World {
        let carrier = if datagrams { Carrier::Datagrams(65_507) } else { Carrier::Stream };
        let now = Instant::now();
        let mut machine = Machine::new(Settings::new(carrier), seed);
        machine.connect(now);
        World {
            now,
            machine,
            model: Model::new(datagrams, seed),
            weather,
            random: Rng::with_seed(seed),
            way: Vec::new(),
            fates: BTreeMap::new(),
            told: Vec::new(),
            reconnect_in: None,
            posted: 0,
            appended: BTreeSet::new(),
        }
    }

    fn percent(&mut self, chance: u8) -> bool {
        self.random.u8(0..100) < chance
    }

    fn post(&mut self, to_client: bool, bytes: Vec<u8>) {
        if !self.model.datagrams {
            // In pieces, in order.
            let cut = self.random.usize(0..=bytes.len());
            let (a, b) = bytes.split_at(cut);
            return self.way.extend([a, b].map(|piece| (to_client, 1, piece.to_vec())));
        }
        if self.percent(self.weather.loss) {
            return;
        }
        let copies = 1 + u32::from(self.percent(self.weather.doubled));
        for _ in 0..copies {
            let steps = if self.percent(self.weather.late) { self.random.u32(2..12) } else { 1 };
            self.way.push((to_client, steps, bytes.clone()));
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        let (mut arrived, mut under_way) = (Vec::new(), Vec::new());
        for (to_client, steps, bytes) in self.way.drain(..) {
            if steps <= 1 { arrived.push((to_client, bytes)) } else { under_way.push((to_client, steps - 1, bytes)) }
        }
        self.way = under_way;
        for (to_client, bytes) in arrived {
            if to_client { self.machine.receive(self.now, &bytes) } else { self.model.receive(self.now, &bytes) }
        }
        self.model.tick(self.now);
        self.machine.expire(self.now);
        self.hear();
        let mut out = Vec::new();
        while self.machine.transmit(self.now, &mut out) {
            self.post(false, std::mem::take(&mut out));
        }
        assert!(self.machine.due().is_none_or(|due| due > self.now), "what is due is done");
        for bytes in std::mem::take(&mut self.model.out) {
            self.post(true, bytes);
        }
    }

    fn hear(&mut self) {
        while let Some(event) = self.machine.event() {
            match event {
                Event::Welcomed { new_log: true, .. } => self.told.clear(),
                Event::Upcall(upcall) => {
                    assert_eq!(upcall.payload, self.model.log[upcall.sequence as usize - 1].1);
                    self.told.push((upcall.sequence, upcall.sequence));
                }
                Event::Gap { first, last, .. } => self.told.push((first, last)),
                Event::Receipt { ticket, sequence, due: 7, .. } => {
                    assert_eq!(self.fates.insert(ticket, Fate::Receipt(sequence)), None);
                }
                Event::Unknown { ticket } => assert_eq!(self.fates.insert(ticket, Fate::Unknown), None),
                Event::Down(cause) => {
                    assert!(!cause.is_final(), "{cause:?}");
                    self.reconnect_in = Some(self.random.u32(1..20));
                }
                Event::Welcomed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        if let Some(steps) = self.reconnect_in {
            self.reconnect_in = steps.checked_sub(1);
            if steps == 0 {
                self.machine.connect(self.now);
            }
        }
    }

    /// The connection breaks, with what is under way.
    fn cut(&mut self) {
        self.way.clear();
        self.model.disconnect();
        self.machine.disconnected();
    }

    /// A while in which inputs come, from us and from others, and anything else may happen.
    fn live(&mut self, steps: u32) {
        for _ in 0..steps {
            if self.random.u8(0..4) == 0 && self.machine.has_room() {
                self.posted += 1;
                let text = format!("mine {}", self.posted);
                self.machine.send("", text.as_bytes());
            }
            for _ in 0..self.random.u8(0..3) {
                let due = self.random.u8(0..4) > 0;
                self.model.append(due, b"another's");
            }
            if self.random.u8(0..60) == 0 {
                self.model.skip();
            }
            let happens = |random: &mut Rng, one_in: u32| one_in > 0 && random.u32(0..one_in) == 0;
            if happens(&mut self.random, self.weather.breaks) {
                self.cut();
            }
            if happens(&mut self.random, self.weather.crashes) {
                self.remember();
                self.model.restart();
                self.cut();
            }
            self.step();
        }
    }

    fn remember(&mut self) {
        for (_, payload) in &self.model.log {
            assert!(!payload.starts_with(b"mine") || self.appended.insert(payload.clone()), "it was taken twice");
        }
    }

    /// Nothing new happens, and the network is fine: everything comes to an end.
    fn settle(&mut self) {
        self.weather = Weather { loss: 0, doubled: 0, late: 0, breaks: 0, crashes: 0 };
        self.model.append(true, b"the last one");
        for _ in 0..5_000 {
            self.step();
            let last = self.model.due().1.last().copied().unwrap_or(0);
            let complete = self.told.last().map_or(0, |told| told.1) >= last && self.machine.is_settled();
            if complete && self.machine.is_ready() {
                return;
            }
        }
        panic!("{} of {}, {:?}", self.machine.chain.last(), self.model.log.len(), self.machine);
    }

    fn check(&mut self) {
        let (start, due) = self.model.due();
        let mut covered = BTreeSet::new();
        let mut next = 1;
        for &(first, last) in &self.told {
            assert!(first >= next && last >= first, "twice, or out of order: {:?}", self.told);
            next = last + 1;
            covered.extend(first..=last);
        }
        let missing: Vec<_> = due.iter().filter(|sequence| !covered.contains(sequence)).collect();
        assert!(missing.is_empty(), "neither had nor missed since {start}: {missing:?}");
        self.remember();
        for ticket in 1..=self.posted {
            let text = format!("mine {ticket}").into_bytes();
            match self.fates.get(&ticket) {
                Some(Fate::Receipt(_)) => assert!(self.appended.contains(&text), "{ticket} was never taken"),
                Some(Fate::Unknown) => assert!(self.weather.crashes == 0, "only crashes make it unknown"),
                None => panic!("nothing was said of {ticket}"),
            }
        }
    }

    fn run(mut self, steps: u32) -> World {
        self.live(steps);
        self.settle();
        self.check();
        self
    }
}

proptest! {
    #[test]
    fn datagrams_that_get_lost_doubled_and_late(seed: u64, loss in 0u8..50, doubled in 0u8..30, late in 0u8..40) {
        World::new(true, Weather { loss, doubled, late, breaks: 0, crashes: 0 }, seed).run(600);
    }

    #[test]
    fn datagrams_and_breaks_and_crashes(seed: u64, loss in 0u8..40, crashes in 150u32..600) {
        World::new(true, Weather { loss, doubled: 10, late: 20, breaks: 100, crashes }, seed).run(600);
    }

    #[test]
    fn streams_that_break(seed: u64, breaks in 2u32..80) {
        World::new(false, Weather { loss: 0, doubled: 0, late: 0, breaks, crashes: 0 }, seed).run(600);
    }

    #[test]
    fn streams_and_crashes(seed: u64, crashes in 50u32..300) {
        World::new(false, Weather { loss: 0, doubled: 0, late: 0, breaks: 60, crashes }, seed).run(600);
    }

    #[test]
    fn rubbish_does_not_panic(seed: u64, datagrams: bool, rubbish in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..40)) {
        let mut world = World::new(datagrams, Weather { loss: 0, doubled: 0, late: 0, breaks: 0, crashes: 0 }, seed);
        world.live(if seed % 2 == 0 { 10 } else { 0 });
        let mut out = Vec::new();
        for mut bytes in rubbish {
            if let (Some(first), true) = (bytes.first_mut(), world.machine.is_ready()) {
                *first = 0;
            }
            world.machine.receive(world.now, &bytes);
            world.machine.transmit(world.now, &mut out);
        }
    }
}

/// A stream on which nothing happens is asked for a sign of life as often as was configured, and given up in the end.
#[test]
fn a_silent_daemon_is_asked_and_given_up() {
    let begun = Instant::now();
    let ping_interval = Duration::from_secs(7);
    let settings = Settings { ping_interval, ..Settings::new(Carrier::Stream) };
    let mut machine = Machine::new(settings, 1);
    machine.connect(begun);
    let mut out = Vec::new();
    machine.transmit(begun, &mut out);
    let Ok(Frame::Hello(hello)) = Frame::take(&mut &out[..]) else { panic!("HELLO comes first") };
    let welcome = Welcome {
        version: 1,
        resumed: false,
        lease: 0,
        id: 1,
        secret: [1; 16],
        key: 0,
        log: 1,
        start: 1,
        next: 1,
        nonce: hello.nonce,
        last_message: 0,
        max_message: 100,
    };
    machine.receive(begun, &Frame::Welcome(welcome).to_vec());
    assert_eq!(machine.due(), Some(begun + ping_interval));
    machine.expire(begun + ping_interval);
    out.clear();
    machine.transmit(begun + ping_interval, &mut out);
    assert!(matches!(Frame::take(&mut &out[..]), Ok(Frame::Ping { .. })));
    let mut now = begun + ping_interval;
    while machine.is_ready() {
        now = machine.due().expect("it is not waited for ever");
        machine.expire(now);
        out.clear();
        machine.transmit(now, &mut out);
    }
    assert_eq!(now, begun + ping_interval + Duration::from_secs(60));
}
