//! Log, registry and delivery of upcalld, without sockets and without a clock: pure and deterministic. The driver
//! passes in the time and takes out bytes as slices. This crate has no configuration and does no logging.
//!
//! A driver works in turns. It handles every input of the turn, with [`Engine::input`] and the similar functions, as
//! long as [`Engine::intake`] allows it. Then, for each endpoint that [`Engine::take_ready`] adds, it writes what
//! [`Engine::slices`] (streams), [`Engine::datagram_run`] (text datagrams) or [`Engine::next_datagram`] (native
//! datagrams) returns. It ends the turn with [`Engine::end_turn`].
//!
//! # Modules
//!
//! | module | owns |
//! |---|---|
//! | `log` | the records, in pages and in two renditions, and what a reader receives of them |
//! | `session` | what outlives a connection: filters, receipts, the right to resume |
//! | `delivery` | outboxes, acknowledged delivery, and what is written to which endpoint |
//! | `slow` | which endpoints are behind, for which of them inputs are held, and the policy |
//! | `registry` | the endpoints, by number, topic, key and lease |
//! | `deadlines` | when something is due |
//! | `protocol_detection`, `native`, `input`, `unfinished`, `leave` | what an endpoint does, in the order of its life |
//! | `turn` | the driver's turn |
//! | `gate` | which datagrams may register their source; stands beside the engine |
//!
//! The types of a module know only modules above theirs in this table. The modules meet in their `impl Engine` blocks:
//! each block belongs to the module whose part of the engine it changes, and may call those of any other module,
//! because one event of an endpoint (for example its leave) ends what several modules keep for it. `Endpoint` holds
//! what `session`, `delivery` and `slow` keep for one endpoint, which is why `registry` comes after them; `id` has the
//! names that all modules use.

#![forbid(unsafe_code)]

mod counters;
mod deadlines;
mod delivery;
mod entropy;
mod event;
mod gate;
mod id;
mod input;
mod invariants;
mod leave;
mod log;
mod native;
mod protocol_detection;
mod registry;
mod session;
mod settings;
mod slow;
mod time;
mod turn;
mod unfinished;

use std::collections::VecDeque;

use upcall_wire::address::Peer;
use upcall_wire::reason::Refusal;

use deadlines::Deadlines;
use delivery::outbox::DisplacedRecords;
use log::Log;
use protocol_detection::ProtocolDetection;
use registry::Registry;
use registry::lease::Leases;
use session::Sessions;
use slow::laggards::Laggards;
use turn::Turn;

pub use counters::Counters;
pub use delivery::{Progress, Run};
pub use entropy::Entropy;
pub use event::Event;
pub use gate::{DatagramSource, Dropped, Gate, Verdict, is_command};
pub use id::{EndpointId, ListenerNumber};
pub use input::Accepted;
pub use log::slices::Slices;
pub use native::Terms;
pub use registry::endpoint::{Endpoint, ExpectedProtocol, Registration};
pub use settings::{Audience, Patience, Policy, Settings};
pub use time::{Now, Second, Time};
pub use turn::{InputTurn, Intake};

/// The engine.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    log: Log,
    registry: Registry,
    leases: Leases,
    sessions: Sessions,
    detection: ProtocolDetection,
    laggards: Laggards,
    deadlines: Deadlines,
    /// Records that the log no longer holds, and that are partly written to some endpoints.
    displaced: DisplacedRecords,
    /// Endpoints that have something to send, and whose sockets may have room. `take_ready` adds those that receive
    /// every input.
    ready: Vec<EndpointId>,
    turn: Turn,
    events: VecDeque<Event>,
    counters: Counters,
    entropy: Entropy,
}

impl Engine {
    /// Creates an engine with a log of `log_size` bytes, which must be at least twice `settings.max_behind`.
    pub fn new(settings: Settings, log_size: usize, mut entropy: Entropy) -> Engine {
        Engine {
            settings,
            log: Log::new(entropy.next(), log_size),
            registry: Registry::default(),
            leases: Leases::default(),
            sessions: Sessions::default(),
            detection: ProtocolDetection::new(),
            laggards: Laggards::default(),
            deadlines: Deadlines::default(),
            displaced: DisplacedRecords::default(),
            ready: Vec::new(),
            turn: Turn::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            entropy,
        }
    }

    /// Applies other settings from now on.
    pub fn reconfigure(&mut self, now: Now, settings: Settings) {
        self.settings = settings;
        self.reconsider_lags(now);
    }

    /// Registers an endpoint. Inputs that are accepted from now on are due to it.
    ///
    /// # Errors
    /// The limit that refuses it. The driver counts the refusal, once it has sent it to the client.
    pub fn register(&mut self, now: Now, client: Registration) -> Result<EndpointId, Refusal> {
        self.register_superseding(now, client, None)
    }

    /// Like [`Engine::register`], for an endpoint that will replace another one, see [`Engine::superseded_by`]. The
    /// limits do not count the one that is replaced.
    ///
    /// # Errors
    /// The limit that refuses it.
    pub fn register_superseding(
        &mut self,
        now: Now,
        client: Registration,
        superseded: Option<EndpointId>,
    ) -> Result<EndpointId, Refusal> {
        let (max, next) = (self.settings.max_endpoints, self.log.next());
        let id = self.registry.insert(client, superseded, max, next, now.time)?;
        self.counters.registered += 1;
        self.begin_detection(now, id, client.protocol);
        if client.transport.is_datagram() {
            self.grant_lease(now, id);
        }
        Ok(id)
    }

    /// The next event for the driver.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// An endpoint, while it is registered.
    pub fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.registry.get(id)
    }

    /// All endpoints, those that are about to leave included.
    pub fn endpoints(&self) -> impl Iterator<Item = (EndpointId, &Endpoint)> {
        self.registry.iter()
    }

    /// The endpoint whose datagrams carry this key.
    pub fn endpoint_by_key(&self, key: u64) -> Option<EndpointId> {
        self.registry.by_key(key)
    }

    /// A datagram endpoint has another address from now on.
    pub fn set_peer(&mut self, id: EndpointId, peer: Peer) {
        self.registry.set_peer(id, peer);
    }

    /// How many endpoints upcalls are due to: not those that only send, nor those that are about to leave.
    pub fn registered(&self) -> usize {
        self.registry.receivers()
    }

    /// How many sessions have no connection now and can be resumed.
    pub fn detached_sessions(&self) -> usize {
        self.sessions.detached_count()
    }

    /// How many endpoints there are, those that are about to leave included.
    pub fn len(&self) -> usize {
        self.registry.len()
    }

    /// Whether there is no endpoint.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many endpoints are behind.
    pub fn behind(&self) -> usize {
        self.registry.iter().filter(|(_, endpoint)| endpoint.is_behind()).count()
    }

    /// The memory that the log uses, and the most that it may use, in bytes.
    pub fn log_memory(&self) -> (usize, usize) {
        (self.log.allocated(), self.log.size())
    }

    /// The sequence of the next input.
    pub fn next_sequence(&self) -> u64 {
        self.log.next()
    }

    /// What has happened since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The same, so that the driver can count what it refused or dropped by itself.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }
}
