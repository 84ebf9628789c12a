//! What the engine goes by, and what it tells its driver.

use std::time::Duration;

use crate::gate::Dropped;
use crate::id::EndpointId;
use crate::registry::endpoint::Endpoint;
use upcall_wire::format::Format;
use upcall_wire::reason::{Reason, Refusal};

/// Which endpoints an input is due to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Audience {
    /// Every registered endpoint, the sender included.
    #[default]
    All,
    /// Everyone but the sender.
    Others,
    /// The sender only.
    Sender,
}

/// What happens to an endpoint that falls further behind than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// It is disconnected.
    #[default]
    Disconnect,
    /// It skips what it missed and is told so (native); text streams are disconnected.
    Skip,
}

/// How long inputs wait for an endpoint that has fallen behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// At most this long; the budget refills over a minute.
    Limited(Duration),
    /// For ever: nobody is disconnected for another's input.
    Forever,
}

/// What the engine goes by. All of it may change while it runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How upcalls are rendered, from the next input on.
    pub format: Format,
    /// Whom inputs are due to, from the next one on.
    pub audience: Audience,
    /// The most endpoints there may be.
    pub max_endpoints: usize,
    /// How long a datagram endpoint stays registered without renewing.
    pub lease: Duration,
    /// The largest payload of an input, in bytes.
    pub max_message: usize,
    /// How long a session may be resumed once its connection is gone.
    pub session_ttl: Duration,
    /// How long an unfinished message may take.
    pub message_timeout: Option<Duration>,
    /// How far behind an endpoint may fall: a distance in the log, in bytes.
    pub max_behind: u64,
    /// How long inputs wait for it.
    pub patience: Patience,
    /// What then happens to it. Text streams, which cannot be told of a gap, are disconnected whatever it says.
    pub policy: Policy,
    /// How long an endpoint that is told to leave may take to read what is still due to it.
    pub farewell: Duration,
}

impl Settings {
    /// What one turn may append, in bytes: no more than an endpoint may fall behind before inputs wait for it. With it, the
    /// first full socket is noticed long before the policy would have to act.
    pub(crate) fn intake(&self) -> u64 {
        self.max_behind / 4
    }
}

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its place in the one order.
    pub sequence: u64,
    /// How many endpoints it is due to.
    pub due: usize,
    /// The same without its sender.
    pub others: usize,
}

/// Whose inputs may be handled now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// Everybody's.
    Open,
    /// Nobody's until the next turn: this one has taken enough.
    Full,
    /// Only those of this endpoint, for which inputs wait.
    Only(EndpointId),
    /// Nobody's: inputs wait for several endpoints.
    Held,
}

/// Whether the inputs of one endpoint may be handled now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputTurn {
    /// They may.
    Granted,
    /// Not yet: see [`Engine::intake`](crate::Engine::intake).
    Held,
    /// They would put itself further behind, and it is reading: [`Event::Unparked`] tells when they may.
    Parked,
}

/// What the driver is to know or to do.
#[derive(Debug)]
pub enum Event {
    /// An endpoint has left the registry; its connection is the driver's to end.
    Left {
        /// The endpoint as it was.
        endpoint: Box<Endpoint>,
        /// Why.
        reason: Reason,
        /// Whether everything that was due to it was written, its farewell included.
        complete: bool,
    },
    /// Inputs wait for an endpoint: its number.
    InputsHeld(u64),
    /// Inputs no longer wait for anybody.
    InputsReleased,
    /// The inputs of a stream that was [parked](InputTurn::Parked) may be handled again: its tag.
    Unparked(u64),
    /// The patience of an endpoint is used up; inputs go on without it: its number.
    PatienceExhausted(u64),
}

/// What has happened since the start.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Inputs accepted.
    pub inputs: u64,
    /// Upcalls written, each to one endpoint.
    pub upcalls: u64,
    /// Endpoints registered.
    pub registered: u64,
    /// Times that inputs began to wait.
    pub waits: u64,
    /// Upcalls that datagram endpoints did not get, because they took nothing for too long or could not be reached.
    pub skipped: u64,
    /// Gaps that were announced to native endpoints.
    pub gaps: u64,
    /// Frames that were answered by an ERROR.
    pub violations: u64,
    pub(crate) left: [u64; Reason::ALL.len()],
    pub(crate) refused: [u64; Refusal::ALL.len()],
    pub(crate) dropped: [u64; Dropped::ALL.len()],
}

impl Counters {
    /// How many endpoints have left for this reason.
    pub fn left(&self, reason: Reason) -> u64 {
        self.left[reason as usize]
    }

    /// How many were refused for this reason.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize]
    }

    /// How many datagrams were dropped for this reason.
    pub fn dropped(&self, dropped: Dropped) -> u64 {
        self.dropped[dropped as usize]
    }

    /// Counts a datagram that the driver dropped.
    pub fn count_dropped(&mut self, dropped: Dropped) {
        self.dropped[dropped as usize] += 1;
    }

    /// Counts somebody who is not let in.
    pub fn count_refused(&mut self, refusal: Refusal) {
        self.refused[refusal as usize] += 1;
    }
}
