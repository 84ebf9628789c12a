//! The machine against a small model of the daemon, over a simulated network that loses, duplicates, delays, splits and
//! breaks. The same seed gives the same run.

mod model;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use proptest::prelude::*;
use upcall_wire::frame::{Frame, Welcome};

use super::*;
use model::Model;

/// A step of virtual time.
const STEP: Duration = Duration::from_millis(20);

/// What the network does to datagrams, each in percent, and how often connections break.
#[derive(Debug, Clone, Copy)]
struct Conditions {
    loss: u8,
    duplicated: u8,
    late: u8,
    /// The connection breaks in one of this many steps; 0 for never.
    breaks: u32,
    /// The daemon restarts without its state in one of this many steps; 0 for never.
    crashes: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Receipt(u64),
    Unknown,
}

struct Simulation {
    now: Instant,
    machine: Machine,
    model: Model,
    conditions: Conditions,
    random: Rng,
    /// Bytes in flight: whether to the client, and for how many more steps.
    in_flight: Vec<(bool, u32, Vec<u8>)>,
    outcomes: BTreeMap<InputId, Outcome>,
    /// The ranges that were reported to the application, in the present log.
    reported: Vec<(u64, u64)>,
    reconnect_in: Option<u32>,
    submitted: u64,
    appended: BTreeSet<Vec<u8>>,
}

impl Simulation {
    fn new(datagrams: bool, conditions: Conditions, seed: u64) -> Simulation {
        let carrier = if datagrams { Carrier::Datagrams(65_507) } else { Carrier::Stream };
        let now = Instant::now();
        let mut machine = Machine::new(Settings::new(carrier), seed);
        machine.connect(now);
        Simulation {
            now,
            machine,
            model: Model::new(datagrams, seed),
            conditions,
            random: Rng::with_seed(seed),
            in_flight: Vec::new(),
            outcomes: BTreeMap::new(),
            reported: Vec::new(),
            reconnect_in: None,
            submitted: 0,
            appended: BTreeSet::new(),
        }
    }

    fn percent(&mut self, chance: u8) -> bool {
        self.random.u8(0..100) < chance
    }

    fn transmit(&mut self, to_client: bool, bytes: Vec<u8>) {
        if !self.model.datagrams {
            // In pieces, in order.
            let cut = self.random.usize(0..=bytes.len());
            let (a, b) = bytes.split_at(cut);
            return self.in_flight.extend([a, b].map(|piece| (to_client, 1, piece.to_vec())));
        }
        if self.percent(self.conditions.loss) {
            return;
        }
        let copies = 1 + u32::from(self.percent(self.conditions.duplicated));
        for _ in 0..copies {
            let steps = if self.percent(self.conditions.late) { self.random.u32(2..12) } else { 1 };
            self.in_flight.push((to_client, steps, bytes.clone()));
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        let (mut arrived, mut in_flight) = (Vec::new(), Vec::new());
        for (to_client, steps, bytes) in self.in_flight.drain(..) {
            if steps <= 1 { arrived.push((to_client, bytes)) } else { in_flight.push((to_client, steps - 1, bytes)) }
        }
        self.in_flight = in_flight;
        for (to_client, bytes) in arrived {
            if to_client { self.machine.receive(self.now, &bytes) } else { self.model.receive(self.now, &bytes) }
        }
        self.model.tick(self.now);
        self.machine.expire(self.now);
        self.process_events();
        let mut out = Vec::new();
        while self.machine.transmit(self.now, &mut out) {
            self.transmit(false, std::mem::take(&mut out));
        }
        assert!(self.machine.due().is_none_or(|due| due > self.now), "what is due is done");
        for bytes in std::mem::take(&mut self.model.out) {
            self.transmit(true, bytes);
        }
    }

    fn process_events(&mut self) {
        while let Some(event) = self.machine.event() {
            match event {
                Event::Welcomed { new_log: true, .. } => self.reported.clear(),
                Event::Upcall(upcall) => {
                    assert_eq!(upcall.payload, self.model.log[upcall.sequence as usize - 1].1);
                    self.reported.push((upcall.sequence, upcall.sequence));
                }
                Event::Gap { first, last, .. } => self.reported.push((first, last)),
                Event::Receipt { input, sequence, due: 7, .. } => {
                    assert_eq!(self.outcomes.insert(input, Outcome::Receipt(sequence)), None);
                }
                Event::Unknown { input } => assert_eq!(self.outcomes.insert(input, Outcome::Unknown), None),
                Event::Disconnected(reason) => {
                    assert!(!reason.is_final(), "{reason:?}");
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

    /// The connection breaks, and what is in flight is lost.
    fn break_connection(&mut self) {
        self.in_flight.clear();
        self.model.disconnect();
        self.machine.disconnected();
    }

    /// Runs with inputs from the client and from other endpoints, and with all faults of the network.
    fn run_with_faults(&mut self, steps: u32) {
        for _ in 0..steps {
            if self.random.u8(0..4) == 0 && self.machine.has_room() {
                self.submitted += 1;
                let text = format!("mine {}", self.submitted);
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
            if happens(&mut self.random, self.conditions.breaks) {
                self.break_connection();
            }
            if happens(&mut self.random, self.conditions.crashes) {
                self.record_log();
                self.model.restart();
                self.break_connection();
            }
            self.step();
        }
    }

    fn record_log(&mut self) {
        for (_, payload) in &self.model.log {
            assert!(!payload.starts_with(b"mine") || self.appended.insert(payload.clone()), "it was accepted twice");
        }
    }

    /// Runs without faults and without new inputs, until everything has been delivered and answered.
    fn run_to_completion(&mut self) {
        self.conditions = Conditions { loss: 0, duplicated: 0, late: 0, breaks: 0, crashes: 0 };
        self.model.append(true, b"the last one");
        for _ in 0..5_000 {
            self.step();
            let last = self.model.due().1.last().copied().unwrap_or(0);
            let complete = self.reported.last().map_or(0, |reported| reported.1) >= last && self.machine.is_flushed();
            if complete && self.machine.is_ready() {
                return;
            }
        }
        panic!("{} of {}, {:?}", self.machine.order.last(), self.model.log.len(), self.machine);
    }

    fn check(&mut self) {
        let (start, due) = self.model.due();
        let mut covered = BTreeSet::new();
        let mut next = 1;
        for &(first, last) in &self.reported {
            assert!(first >= next && last >= first, "repeated, or out of order: {:?}", self.reported);
            next = last + 1;
            covered.extend(first..=last);
        }
        let missing: Vec<_> = due.iter().filter(|sequence| !covered.contains(sequence)).collect();
        assert!(missing.is_empty(), "neither delivered nor reported missing since {start}: {missing:?}");
        self.record_log();
        for input in 1..=self.submitted {
            let text = format!("mine {input}").into_bytes();
            match self.outcomes.get(&input) {
                Some(Outcome::Receipt(_)) => assert!(self.appended.contains(&text), "{input} was never accepted"),
                Some(Outcome::Unknown) => assert!(self.conditions.crashes == 0, "only crashes make it unknown"),
                None => panic!("{input} has no outcome"),
            }
        }
    }

    fn run(mut self, steps: u32) -> Simulation {
        self.run_with_faults(steps);
        self.run_to_completion();
        self.check();
        self
    }
}

proptest! {
    #[test]
    fn datagrams_that_are_lost_duplicated_and_late(seed: u64, loss in 0u8..50, duplicated in 0u8..30, late in 0u8..40) {
        Simulation::new(true, Conditions { loss, duplicated, late, breaks: 0, crashes: 0 }, seed).run(600);
    }

    #[test]
    fn datagrams_and_breaks_and_crashes(seed: u64, loss in 0u8..40, crashes in 150u32..600) {
        Simulation::new(true, Conditions { loss, duplicated: 10, late: 20, breaks: 100, crashes }, seed).run(600);
    }

    #[test]
    fn streams_that_break(seed: u64, breaks in 2u32..80) {
        Simulation::new(false, Conditions { loss: 0, duplicated: 0, late: 0, breaks, crashes: 0 }, seed).run(600);
    }

    #[test]
    fn streams_and_crashes(seed: u64, crashes in 50u32..300) {
        Simulation::new(false, Conditions { loss: 0, duplicated: 0, late: 0, breaks: 60, crashes }, seed).run(600);
    }

    #[test]
    fn rubbish_does_not_panic(
        seed: u64,
        datagrams: bool,
        rubbish in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..40),
    ) {
        let conditions = Conditions { loss: 0, duplicated: 0, late: 0, breaks: 0, crashes: 0 };
        let mut simulation = Simulation::new(datagrams, conditions, seed);
        simulation.run_with_faults(if seed % 2 == 0 { 10 } else { 0 });
        let mut out = Vec::new();
        for mut bytes in rubbish {
            if let (Some(first), true) = (bytes.first_mut(), simulation.machine.is_ready()) {
                *first = 0;
            }
            simulation.machine.receive(simulation.now, &bytes);
            simulation.machine.transmit(simulation.now, &mut out);
        }
    }
}

/// On a silent stream a PING is sent at the configured interval, and the daemon is given up in the end.
#[test]
fn a_silent_daemon_gets_pings_and_is_given_up() {
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
        now = machine.due().expect("the wait is limited");
        machine.expire(now);
        out.clear();
        machine.transmit(now, &mut out);
    }
    assert_eq!(now, begun + ping_interval + Duration::from_secs(60));
}
