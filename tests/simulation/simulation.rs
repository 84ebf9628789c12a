//! The state of a simulation: the engine, its clocks and settings, the clients, and what the log must contain.
//!
//! The modules beside this one act on it: `steps` at random, `turn` as the daemon does, `text` and `native` for the
//! clients.

use std::collections::BTreeMap;
use std::hash::DefaultHasher;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use upcall_engine::{Audience, Counters, EndpointId, Engine, Entropy, Now, Patience, Policy, Settings, Time};
use upcall_wire::format::Format;

use crate::input::LoggedInput;
use crate::native::NativeState;
use crate::network::{DatagramNetwork, NetworkConditions};
use crate::text::{TextClient, TextDatagram};

/// Bytes of memory for the log.
pub(crate) const LOG: usize = 1 << 20;
pub(crate) const MAX_BEHIND: u64 = 256 << 10;
pub(crate) const LEASE: Duration = Duration::from_secs(3);

pub(crate) struct Simulation {
    pub(crate) rng: Rng,
    pub(crate) engine: Engine,
    pub(crate) network: DatagramNetwork<TextDatagram>,
    pub(crate) settings: Settings,
    /// The monotonic clock.
    pub(crate) now: Time,
    /// How far the clock that counts suspend is ahead of the monotonic one.
    pub(crate) suspended: Duration,
    pub(crate) wall: SystemTime,
    /// Text clients, by number.
    pub(crate) clients: BTreeMap<u64, TextClient>,
    /// What the log of the present daemon must contain, from sequence 1 on.
    pub(crate) inputs: Vec<LoggedInput>,
    /// Stalls and slow sockets are over: every client reads everything.
    pub(crate) all_read: bool,
    pub(crate) native: NativeState,
    /// The counters of earlier daemons.
    pub(crate) past: Vec<Counters>,
    /// A hash of everything that happened: the same for the same seed.
    pub(crate) trace: DefaultHasher,
}

impl Simulation {
    pub(crate) fn new(seed: u64) -> Simulation {
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
        let conditions = NetworkConditions { loss: 20, repeats: 10, delay: Duration::from_millis(500) };
        Simulation {
            engine,
            network: DatagramNetwork::new(conditions),
            settings,
            now: Time(0),
            suspended: Duration::ZERO,
            wall: SystemTime::UNIX_EPOCH,
            clients: BTreeMap::new(),
            inputs: Vec::new(),
            all_read: false,
            native: NativeState::new(&mut rng),
            past: Vec::new(),
            trace: DefaultHasher::new(),
            rng,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now { time: self.now, boot: self.now + self.suspended, wall: self.wall }
    }

    /// The number of a random text client that is still registered.
    pub(crate) fn any_text_client(&mut self) -> Option<u64> {
        let present: Vec<u64> =
            self.clients.iter().filter(|(_, c)| c.until.is_none()).map(|(number, _)| *number).collect();
        self.rng.choice(present)
    }

    /// Notes that a text client leaves now, and returns its id. Later inputs are not due to it.
    pub(crate) fn mark_leaving(&mut self, number: u64) -> EndpointId {
        let next = self.engine.next_sequence();
        let client = self.clients.get_mut(&number).unwrap();
        client.until = Some(next);
        client.id
    }

    /// A sum over the counters of all daemons.
    pub(crate) fn counted(&self, counter: impl Fn(&Counters) -> u64) -> u64 {
        self.past.iter().chain([self.engine.counters()]).map(counter).sum()
    }
}
