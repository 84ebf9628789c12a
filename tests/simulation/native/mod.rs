//! Native clients: the real core of the client against the real engine, with all that can happen between them.

mod actions;
mod catch_up;
mod client;
mod datagrams;
mod delivery_record;
mod finish;
mod frames;
mod reference;
mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::time::{Duration, Instant};

use fastrand::Rng;
use upcall_engine::{EndpointId, Gate, Time};

use crate::network::{Network, Weather};
use crate::simulation::World;
use client::Client;
use datagrams::Peer;
use reference::Truth;
use streams::Line;

/// What has happened, for the figures.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) upcalls: u64,
    pub(crate) gaps: u64,
    pub(crate) welcomes: u64,
    pub(crate) resumes: u64,
    pub(crate) superseded: u64,
    pub(crate) sessions_lost: u64,
    pub(crate) receipts: u64,
    pub(crate) repeats: u64,
    pub(crate) unknown: u64,
    pub(crate) subscribed: u64,
    pub(crate) refused: u64,
    pub(crate) unsent: u64,
    pub(crate) moves: u64,
    pub(crate) crashes: u64,
    pub(crate) late: u64,
    pub(crate) overrun: u64,
}

/// All that there is of native clients, and of what the daemon keeps for them outside of the engine.
pub(crate) struct Natives {
    clients: Vec<Client>,
    /// Connections, by tag.
    lines: BTreeMap<u64, Line>,
    /// Datagram clients as the daemon knows them, by tag.
    peers: BTreeMap<u64, Peer>,
    pub(crate) up: Network<Vec<u8>>,
    pub(crate) down: Network<Vec<u8>>,
    /// What has arrived at the daemon and is not read yet.
    socket: VecDeque<(u64, Vec<u8>)>,
    gate: Gate<BuildHasherDefault<DefaultHasher>>,
    next_tag: u64,
    next_address: u64,
    next_message: u64,
    history: bool,
    max_sessions: Option<usize>,
    /// The largest datagram, and the largest that the way takes.
    max_datagram: usize,
    mtu: usize,
    /// Where virtual time began, in the terms of clients.
    begun: Instant,
    closing: bool,
    truth: Truth,
    late: catch_up::Late,
    pub(crate) figures: Figures,
}

impl Natives {
    pub(crate) fn new(rng: &mut Rng) -> Natives {
        let mut weather = || Weather {
            loss: rng.u8(..=50),
            repeats: rng.u8(..20),
            delay: Duration::from_millis([1, 30, 300, 1_500][rng.usize(..4)]),
        };
        let (up, down) = (Network::new(weather()), Network::new(weather()));
        Natives {
            clients: Vec::new(),
            lines: BTreeMap::new(),
            peers: BTreeMap::new(),
            up,
            down,
            socket: VecDeque::new(),
            gate: Gate::with_key(BuildHasherDefault::default()),
            next_tag: 1,
            next_address: 1,
            next_message: 1,
            history: rng.bool(),
            max_sessions: rng.bool().then_some(3),
            max_datagram: 3_000,
            mtu: if rng.bool() { 3_000 } else { rng.usize(1_200..3_000) },
            begun: Instant::now(),
            closing: false,
            truth: Truth::default(),
            late: catch_up::Late::new(),
            figures: Figures::default(),
        }
    }

    /// Nobody is connected, and nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.lines.is_empty() && self.peers.is_empty()
    }

    fn instant(&self, time: Time) -> Instant {
        self.begun + Duration::from_nanos(time.0)
    }

    fn time(&self, instant: Instant) -> Time {
        Time(0) + (instant - self.begun)
    }

    fn tag(&mut self) -> u64 {
        self.next_tag += 1;
        self.next_tag
    }
}

impl World {
    /// What has arrived by now is received, on both sides.
    pub(crate) fn natives_pass(&mut self) {
        self.read_lines();
        self.read_datagrams();
        self.deliver_to_clients();
        for index in 0..self.natives.clients.len() {
            self.work(index);
        }
        self.sockets_have_room();
    }

    /// When something is to be done for native clients.
    pub(crate) fn native_due(&self) -> Option<Time> {
        let natives = &self.natives;
        let clients = natives.clients.iter().filter(|client| !client.is_stalled(self.everybody_reads));
        let due = clients.flat_map(|client| {
            let machine = client.machine.due().filter(|_| client.connected).map(|due| natives.time(due));
            [machine, client.retry_at, client.greet_by]
        });
        due.flatten().chain(natives.up.next()).chain(natives.down.next()).min()
    }

    /// The leases of native datagram endpoints, as they should be.
    pub(crate) fn native_leases(&self) -> impl Iterator<Item = (EndpointId, Time)> {
        self.natives.peers.values().map(|peer| (peer.endpoint, peer.lease))
    }

    /// The inputs of an endpoint that had to wait may be handled.
    pub(crate) fn unpark(&mut self, tag: u64) {
        if let Some(line) = self.natives.lines.get_mut(&tag) {
            line.parked = false;
        }
    }
}
