//! Log, registry and delivery: pure and deterministic. Time comes in, bytes go out as slices; no sockets, no configuration
//! types, no logging.
//!
//! A driver works in turns: it gives every input of the turn to [`Engine::input`] for as long as [`Engine::intake`] lets
//! it, then writes what [`Engine::take_ready`] names, as [`Engine::slices`] gives it, and ends with [`Engine::end_turn`].

mod delivery;
mod departure;
mod gate;
mod invariants;
mod limiter;
mod log;
mod outbox;
mod pace;
mod page;
mod registry;
mod slow;
mod time;
mod types;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::address::{Peer, Transport};
use crate::wire::format::Fields;
use crate::wire::reason::Refusal;
use log::{Cursor, Log};
use outbox::CutRecords;
use registry::{Delivery, Lease, Registry};
use slow::Laggards;

pub use delivery::{Progress, Run};
pub use gate::{Claim, Dropped, Gate, Verdict, is_command};
pub use log::Slices;
pub use registry::{Endpoint, EndpointId, ListenerNumber, Registration};
pub use time::{Now, Time};
pub use types::{Accepted, Audience, Counters, Event, Intake, Patience, Policy, Settings, Turn};

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Deadline {
    Message,
    Patience,
    Farewell,
    Parked,
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
    cut_records: CutRecords,
    deadlines: BTreeSet<(Time, EndpointId, Deadline)>,
    unfinished: HashMap<EndpointId, Unfinished>,
    /// When a lease may have ended, on the clock that counts suspend: one entry for each datagram endpoint. A renewal
    /// changes the endpoint only, and what is found here too early is entered again.
    leases: BTreeSet<(Time, EndpointId)>,
    ready: Vec<EndpointId>,
    events: VecDeque<Event>,
    counters: Counters,
    /// The first input of this turn that is due to more than its sender.
    broadcast: Option<u64>,
    /// The largest record so far, in bytes.
    largest: usize,
    /// What this turn has appended, in bytes.
    appended: usize,
    /// Since when inputs have been held, and how long they had been before.
    held_since: Option<Time>,
    held: Duration,
    scratch: Vec<u8>,
}

/// The number of those who are not registered.
const NOBODY: u64 = 0;

/// Where an input comes from, as `{from}` shows it.
struct Origin(Transport, Peer);

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0, self.1)
    }
}

impl Engine {
    /// An engine with a log of `log_size` bytes, in which `settings.max_behind` has to fit twice.
    pub fn new(settings: Settings, log_size: usize) -> Engine {
        Engine {
            settings,
            log: Log::new(log_size),
            registry: Registry::default(),
            laggards: Laggards::default(),
            cut_records: CutRecords::default(),
            deadlines: BTreeSet::new(),
            unfinished: HashMap::new(),
            leases: BTreeSet::new(),
            ready: Vec::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            broadcast: None,
            largest: 0,
            appended: 0,
            held_since: None,
            held: Duration::ZERO,
            scratch: Vec::new(),
        }
    }

    /// Goes by other settings from now on.
    pub fn reconfigure(&mut self, now: Now, settings: Settings) {
        self.settings = settings;
        self.reconsider(now);
    }

    /// Registers an endpoint: what is accepted from now on is due to it.
    pub fn register(&mut self, now: Now, who: Registration) -> Result<EndpointId, Refusal> {
        let id = self
            .registry
            .insert(who, self.settings.max_endpoints, self.log.next(), now.time)
            .inspect_err(|refusal| self.counters.count_refused(*refusal))?;
        self.counters.registered += 1;
        if who.transport.is_datagram() {
            let until = now.boot + self.settings.lease;
            let held = self.held_until(now.time);
            self.leases.insert((until, id));
            if let Some(endpoint) = self.registry.get_mut(id) {
                endpoint.lease = Some(Box::new(Lease { until, entered: until, held }));
            }
        }
        Ok(id)
    }

    /// Renews the lease of a datagram endpoint.
    pub fn renew(&mut self, now: Now, id: EndpointId) {
        let held = self.held_until(now.time);
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        endpoint.heard = now.time;
        if let Some(lease) = &mut endpoint.lease {
            (lease.until, lease.held) = (now.boot + self.settings.lease, held);
            if lease.until < lease.entered {
                // Leases have become shorter.
                self.leases.remove(&(lease.entered, id));
                self.leases.insert((lease.until, id));
                lease.entered = lease.until;
            }
        }
    }

    /// Takes one input from an endpoint: appends it to the log, due to everyone whom the audience names. `None` if the
    /// endpoint is not, or no longer, heard.
    pub fn input(&mut self, now: Now, id: EndpointId, data: &[u8]) -> Option<Accepted> {
        let endpoint = self.registry.get_mut(id).filter(|endpoint| endpoint.leaving.is_none())?;
        endpoint.inputs += 1;
        endpoint.heard = now.time;
        let (number, receives) = (endpoint.number, endpoint.receives);
        let origin = Origin(endpoint.transport, endpoint.peer);
        let accepted = self.append(now, number, receives, &origin, data);
        if self.settings.audience == Audience::Sender && receives {
            self.mark_due(id, accepted.sequence);
        }
        Some(accepted)
    }

    /// Takes one input from somebody who is not registered, as listeners allow whose role is `input`.
    pub fn input_from(&mut self, now: Now, transport: Transport, peer: Peer, data: &[u8]) -> Accepted {
        self.append(now, NOBODY, false, &Origin(transport, peer), data)
    }

    fn append(&mut self, now: Now, number: u64, receives: bool, origin: &Origin, data: &[u8]) -> Accepted {
        let fields = Fields { data, sequence: self.log.next(), topic: "", from: origin, time: now.wall };
        self.scratch.clear();
        self.settings.format.render(&fields, &mut self.scratch);
        self.make_room(now, self.scratch.len());
        let audience = self.settings.audience;
        let sequence = self.log.append(&self.scratch, audience, number);
        self.appended += self.scratch.len();
        self.largest = self.largest.max(self.scratch.len());
        self.counters.inputs += 1;
        let receivers = self.registry.receivers();
        let due = match audience {
            Audience::All => receivers,
            Audience::Others => receivers - usize::from(receives),
            Audience::Sender => usize::from(receives),
        };
        if audience != Audience::Sender {
            self.broadcast.get_or_insert(sequence);
        }
        Accepted { sequence, due }
    }

    /// Whose inputs may be handled now.
    pub fn intake(&self) -> Intake {
        // A turn takes no more than an endpoint may fall behind before inputs wait for it: with it, the first full
        // socket is noticed long before the policy would have to act.
        if self.appended as u64 >= self.settings.max_behind / 4 {
            return Intake::Full;
        }
        match (self.laggards.waited(), self.laggards.only_waited()) {
            (0, _) => Intake::Open,
            (_, Some(id)) => Intake::Only(id),
            _ => Intake::Held,
        }
    }

    /// Whether the inputs of this endpoint may be handled now. Ask before each.
    pub fn turn_of(&mut self, now: Now, id: EndpointId) -> Turn {
        match self.intake() {
            Intake::Open => {}
            Intake::Only(only) if only == id => {}
            _ => return Turn::NotNow,
        }
        if self.park(now, id) { Turn::Parked } else { Turn::Yes }
    }

    /// Notes that something was heard of an endpoint, and whether it has left a message unfinished.
    pub fn heard(&mut self, now: Now, id: EndpointId, unfinished: bool) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        endpoint.heard = now.time;
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
        if let Some(Unfinished { deadline, .. }) = self.unfinished.remove(&id) {
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
