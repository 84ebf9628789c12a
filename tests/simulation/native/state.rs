//! All native clients, and what the daemon keeps for them outside the engine.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::time::{Duration, Instant};

use fastrand::Rng;
use upcall_engine::{EndpointId, Gate, Terms, Time};

use super::client::NativeClient;
use super::connection::NativeConnection;
use super::peer::NativePeer;
use super::reference::Reference;
use crate::network::{DatagramNetwork, NetworkConditions};

/// How often things happened.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct NativeCounts {
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
    pub(crate) started_behind: u64,
    pub(crate) overrun: u64,
}

/// An endpoint that started far behind and has not caught up yet.
pub(crate) struct CatchingUp {
    pub(crate) endpoint: EndpointId,
    /// The first sequence that it still needs.
    pub(crate) next: u64,
    /// The next sequence of the log at the last check.
    pub(crate) head: u64,
}

/// All native clients, and what the daemon keeps for them outside the engine.
pub(crate) struct NativeState {
    pub(super) clients: Vec<NativeClient>,
    /// Connections, by tag.
    pub(super) connections: BTreeMap<u64, NativeConnection>,
    /// Datagram clients as the daemon knows them, by tag.
    pub(super) peers: BTreeMap<u64, NativePeer>,
    /// Datagrams to the daemon.
    pub(crate) up: DatagramNetwork<Vec<u8>>,
    /// Datagrams to the clients.
    pub(crate) down: DatagramNetwork<Vec<u8>>,
    /// Datagrams in the socket of the daemon, each with its source.
    pub(super) socket: VecDeque<(u64, Vec<u8>)>,
    pub(super) gate: Gate<BuildHasherDefault<DefaultHasher>>,
    pub(super) next_tag: u64,
    pub(super) next_address: u64,
    pub(super) next_message: u64,
    pub(super) history: bool,
    pub(super) max_sessions: Option<usize>,
    /// The largest datagram that the daemon sends, and the largest that the path carries.
    pub(super) max_datagram: usize,
    pub(super) mtu: usize,
    /// The instant at which virtual time is 0, for the clocks of clients.
    pub(super) started_at: Instant,
    /// The daemon drains: clients do not connect again.
    pub(super) closing: bool,
    pub(super) reference: Reference,
    /// By number.
    pub(super) catching_up: BTreeMap<u64, CatchingUp>,
    pub(crate) counts: NativeCounts,
}

impl NativeState {
    pub(crate) fn new(rng: &mut Rng) -> NativeState {
        let mut conditions = || NetworkConditions {
            loss: rng.u8(..=50),
            repeats: rng.u8(..20),
            delay: Duration::from_millis([1, 30, 300, 1_500][rng.usize(..4)]),
        };
        let (up, down) = (DatagramNetwork::new(conditions()), DatagramNetwork::new(conditions()));
        NativeState {
            clients: Vec::new(),
            connections: BTreeMap::new(),
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
            started_at: Instant::now(),
            closing: false,
            reference: Reference::default(),
            catching_up: BTreeMap::new(),
            counts: NativeCounts::default(),
        }
    }

    /// Whether the daemon has neither connections nor datagram endpoints of native clients.
    pub(crate) fn is_quiet(&self) -> bool {
        self.connections.is_empty() && self.peers.is_empty()
    }

    pub(super) fn instant(&self, time: Time) -> Instant {
        self.started_at + Duration::from_nanos(time.0)
    }

    pub(super) fn time(&self, instant: Instant) -> Time {
        Time(0) + (instant - self.started_at)
    }

    /// A tag that was not used before.
    pub(super) fn new_tag(&mut self) -> u64 {
        self.next_tag += 1;
        self.next_tag
    }

    /// What the daemon permits to native clients.
    pub(super) fn terms(&self) -> Terms {
        Terms { sends: true, receives: true, history: self.history, max_sessions: self.max_sessions }
    }
}
