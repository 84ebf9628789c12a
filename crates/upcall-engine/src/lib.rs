//! Log, registry and delivery: pure and deterministic. Time comes in, bytes go out as slices; no sockets, no configuration
//! types, no logging.
//!
//! A driver works in turns: it gives every input of the turn to [`Engine::input`] for as long as [`Engine::intake`] lets
//! it, then writes what [`Engine::take_ready`] names, as [`Engine::slices`] (streams), [`Engine::datagram_run`] (text datagrams) or
//! [`Engine::next_datagram`] (native ones) gives it, and ends with [`Engine::end_turn`].

#![forbid(unsafe_code)]

mod delivery;
mod entropy;
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

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::time::{Duration, SystemTime};

use delivery::outbox::DisplacedRecords;
use id::OwnIdHasher;
use log::Log;
use log::reading::Cursor;
use protocol_detection::SilenceQueue;
use registry::Registry;
use registry::lease::Leases;
use session::Sessions;
use slow::Laggards;
use upcall_wire::reason::Refusal;

pub use delivery::{Progress, Run};
pub use entropy::Entropy;
pub use gate::{DatagramSource, Dropped, Gate, Verdict, is_command};
pub use id::{EndpointId, ListenerNumber};
pub use log::slices::Slices;
pub use native::Terms;
pub use registry::endpoint::{Endpoint, ExpectedProtocol, Registration};
pub use settings::{Accepted, Audience, Counters, Event, InputTurn, Intake, Patience, Policy, Settings};
pub use time::{Now, Second, Time};

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    Message,
    Patience,
    Farewell,
    Parked,
    Recovery,
}

/// A message that has begun.
#[derive(Debug, Clone, Copy)]
struct Unfinished {
    deadline: Time,
    /// How long inputs had been held in all when it began: it need not hurry while nobody reads it.
    held: Duration,
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    log: Log,
    registry: Registry,
    laggards: Laggards,
    displaced: DisplacedRecords,
    deadlines: BTreeSet<(Time, EndpointId, Deadline)>,
    unfinished: HashMap<EndpointId, Unfinished>,
    leases: Leases,
    ready: Vec<EndpointId>,
    events: VecDeque<Event>,
    counters: Counters,
    /// The first input of this turn that is due to more than its sender.
    broadcast: Option<u64>,
    /// The largest frame and text so far, in bytes.
    largest: (usize, usize),
    /// What this turn has appended, in bytes.
    appended: usize,
    /// Since when inputs have been held, and how long they had been before.
    held_since: Option<Time>,
    held: Duration,
    /// A text on its way to the log.
    scratch: Vec<u8>,
    /// The time of day of this turn, also in milliseconds since 1970.
    stamp: (SystemTime, u64),
    /// Frames on their way to an endpoint that cannot be written as they lie in the log.
    copied: Vec<u8>,
    /// Endpoints whose place in the log is kept until it is known what they speak.
    undecided: SilenceQueue,
    /// Endpoints that are to say HELLO.
    awaiting_hello: SilenceQueue,
    sessions: Sessions,
    /// Native datagram endpoints, by what their datagrams carry: keys that we have drawn.
    keys: HashMap<u64, EndpointId, BuildHasherDefault<OwnIdHasher>>,
    entropy: Entropy,
}

impl Engine {
    /// An engine with a log of `log_size` bytes, in which `settings.max_behind` has to fit twice.
    pub fn new(settings: Settings, log_size: usize, mut entropy: Entropy) -> Engine {
        Engine {
            log: Log::new(entropy.next(), log_size),
            entropy,
            copied: Vec::new(),
            undecided: SilenceQueue::undecided(),
            awaiting_hello: SilenceQueue::awaiting_hello(),
            sessions: Sessions::default(),
            keys: HashMap::default(),
            settings,
            registry: Registry::default(),
            laggards: Laggards::default(),
            displaced: DisplacedRecords::default(),
            deadlines: BTreeSet::new(),
            unfinished: HashMap::new(),
            leases: Leases::default(),
            ready: Vec::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            broadcast: None,
            largest: (0, 0),
            appended: 0,
            held_since: None,
            held: Duration::ZERO,
            scratch: Vec::new(),
            stamp: (SystemTime::UNIX_EPOCH, 0),
        }
    }

    /// Goes by other settings from now on.
    pub fn reconfigure(&mut self, now: Now, settings: Settings) {
        self.settings = settings;
        self.reconsider_lags(now);
    }

    /// Registers an endpoint: what is accepted from now on is due to it. A refusal is counted by whoever tells it.
    pub fn register(&mut self, now: Now, who: Registration) -> Result<EndpointId, Refusal> {
        self.register_superseding(now, who, None)
    }

    /// The same for one that is to take the place of another, see [`Engine::superseded_by`]: caps have room for it.
    pub fn register_superseding(
        &mut self,
        now: Now,
        who: Registration,
        over: Option<EndpointId>,
    ) -> Result<EndpointId, Refusal> {
        let id = self.registry.insert(who, over, self.settings.max_endpoints, self.log.next(), now.time)?;
        self.counters.registered += 1;
        self.begin_detection(now, id, who.protocol);
        if who.transport.is_datagram() {
            self.grant_lease(now, id);
        }
        Ok(id)
    }

    /// Whose inputs may be handled now.
    pub fn intake(&self) -> Intake {
        if self.appended as u64 >= self.settings.intake() {
            return Intake::Full;
        }
        match (self.laggards.waited(), self.laggards.only_waited()) {
            (0, _) => Intake::Open,
            (_, Some(id)) => Intake::Only(id),
            _ => Intake::Held,
        }
    }

    /// Whether the inputs of this endpoint may be handled now. Ask before each.
    pub fn request_input(&mut self, now: Now, id: EndpointId) -> InputTurn {
        match self.intake() {
            Intake::Open => {}
            Intake::Only(only) if only == id => {}
            _ => return InputTurn::Held,
        }
        let Some(endpoint) = self.registry.get_mut(id) else { return InputTurn::Granted };
        let may_wait = endpoint.slow.is_some();
        if endpoint.note_unread_answers() || (may_wait && self.park(now, id)) {
            InputTurn::Parked
        } else {
            InputTurn::Granted
        }
    }

    /// Notes that something was heard of an endpoint, and whether it has left a message unfinished.
    pub fn note_received(&mut self, now: Now, id: EndpointId, unfinished: bool) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        endpoint.last_received = now.time.into();
        if !unfinished || endpoint.leaving.is_some() {
            self.finish_message(id);
        } else if let Some(timeout) = self.settings.message_timeout
            && !self.unfinished.contains_key(&id)
        {
            let deadline = now.time + timeout;
            self.unfinished.insert(id, Unfinished { deadline, held: self.held_until(now.time) });
            self.deadlines.insert((deadline, id, Deadline::Message));
        }
    }

    fn finish_message(&mut self, id: EndpointId) {
        if !self.unfinished.is_empty()
            && let Some(Unfinished { deadline, .. }) = self.unfinished.remove(&id)
        {
            self.deadlines.remove(&(deadline, id, Deadline::Message));
        }
    }

    /// The next thing that the driver is to know or to do.
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

    /// How many endpoints upcalls are due to: neither those that only send nor those that are about to leave.
    pub fn registered(&self) -> usize {
        self.registry.receivers()
    }

    /// How many sessions have no connection now and could be resumed.
    pub fn detached_sessions(&self) -> usize {
        self.sessions.detached_count()
    }

    /// How many endpoints there are in all.
    pub fn len(&self) -> usize {
        self.registry.len()
    }

    /// Whether nobody is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many endpoints are behind.
    pub fn behind(&self) -> usize {
        self.registry.iter().filter(|(_, endpoint)| endpoint.is_behind()).count()
    }

    /// Memory of the log in use, and the most that it may use, in bytes.
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

    /// The same, to count what the driver refused by itself.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }
}
