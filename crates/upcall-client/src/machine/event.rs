//! What a [`Machine`](super::Machine) reports, and why a registration ended.

use std::time::{Duration, SystemTime};

use upcall_wire::frame::{Code, GapReason, kind};
use upcall_wire::reason::{Reason, Refusal};

/// The number of an input of this client, from the call that sends it to the result. It has no meaning elsewhere.
pub type InputId = u64;

/// An upcall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcall {
    /// Its position in the log.
    pub sequence: u64,
    /// The number of the endpoint that sent the input; 0 for a sender that is not registered.
    pub source: u64,
    /// When the daemon received the input, in milliseconds since 1970 (UTC).
    pub time: u64,
    /// Its topic; empty if it has none.
    pub topic: String,
    /// The input, byte for byte.
    pub payload: Vec<u8>,
}

impl Upcall {
    /// When the daemon received the input, by the daemon's clock.
    pub fn received(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.time)
    }
}

/// Why upcalls are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The client fell too far behind, and the daemon's policy for slow consumers is to skip.
    SlowConsumer,
    /// The daemon's log no longer held them when the session was resumed, or when history was requested.
    Evicted,
    /// The upcall does not fit into a datagram.
    TooLarge,
    /// The daemon no longer had the session, and a new one began.
    Session,
}

impl Loss {
    /// The name that programs show: `slow_consumer`, `evicted`, `too_large` (as in upcall-protocol(7)), `session_lost`.
    pub const fn name(self) -> &'static str {
        match self {
            Loss::SlowConsumer => GapReason::SlowConsumer.name(),
            Loss::Evicted => GapReason::Evicted.name(),
            Loss::TooLarge => GapReason::TooLarge.name(),
            Loss::Session => "session_lost",
        }
    }
}

impl From<GapReason> for Loss {
    fn from(reason: GapReason) -> Loss {
        match reason {
            GapReason::SlowConsumer => Loss::SlowConsumer,
            GapReason::Evicted => Loss::Evicted,
            GapReason::TooLarge => Loss::TooLarge,
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The daemon has registered this client.
    Welcomed {
        /// Whether the previous session was resumed.
        resumed: bool,
        /// Whether the daemon's log differs from that of the previous session, so that sequences start again.
        new_log: bool,
        /// The first sequence that may be due to this client.
        start: u64,
        /// The sequence that the next input gets.
        next: u64,
    },
    /// An upcall. Each is reported once, in order.
    Upcall(Upcall),
    /// A range of sequences that this client does not receive.
    Gap {
        /// The first sequence.
        first: u64,
        /// The last sequence.
        last: u64,
        /// The reason.
        loss: Loss,
    },
    /// The daemon has accepted an input.
    Receipt {
        /// What [`Machine::send`](super::Machine::send) returned.
        input: InputId,
        /// The input's position in the log.
        sequence: u64,
        /// How many endpoints it was due to, not counting this one.
        due: u32,
        /// Whether the daemon had already accepted it when it was sent earlier, and that receipt was lost.
        repeat: bool,
    },
    /// An input was sent, but there is no way left to find out whether the daemon accepted it. It is not sent again.
    Unknown {
        /// What [`Machine::send`](super::Machine::send) returned.
        input: InputId,
    },
    /// An input was not accepted, and is not sent again.
    Rejected {
        /// What [`Machine::send`](super::Machine::send) returned.
        input: InputId,
        /// The reason.
        code: Code,
        /// A human-readable explanation.
        text: String,
    },
    /// A change of the filters is in force.
    Subscribed {
        /// What [`Machine::subscribe`](super::Machine::subscribe) or its counterpart returned.
        request: u64,
        /// The first sequence that the filters apply to.
        from: u64,
        /// Whether there never was a filter, so that everything is due.
        everything: bool,
        /// All filters in force.
        filters: Vec<String>,
    },
    /// A change of the filters was refused.
    NotSubscribed {
        /// What [`Machine::subscribe`](super::Machine::subscribe) or its counterpart returned.
        request: u64,
        /// The reason.
        code: Code,
        /// A human-readable explanation.
        text: String,
    },
    /// The answer to [`Machine::ping`](super::Machine::ping).
    Pong {
        /// What that call returned.
        nonce: u64,
        /// The time from the first PING to the answer.
        round_trip: Duration,
    },
    /// The daemon sent an error that belongs to no input and no request of this client.
    DaemonError {
        /// What is wrong.
        code: Code,
        /// A human-readable explanation.
        text: String,
    },
    /// The registration has ended, or could not be made.
    Disconnected(DisconnectReason),
}

/// Why a registration ended, or could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DisconnectReason {
    /// This client sent BYE. The daemon answered it, or did not answer several of them.
    Left,
    /// The connection was closed without a BYE, or broke.
    Closed,
    /// The daemon sent BYE. The text is the name of a [`Reason`] or [`Refusal`], or one that this version does not
    /// know.
    Bye(String),
    /// The daemon sent an error that ends the registration.
    Refused {
        /// What is wrong.
        code: Code,
        /// The kind of the frame that caused it; 0 for none.
        about: u8,
        /// A human-readable explanation.
        text: String,
    },
    /// The daemon sent bytes that violate upcall-protocol(7). The text describes what is wrong with them.
    Protocol(String),
    /// The daemon sent text instead of frames. Holds the beginning of the text.
    NotNative(Vec<u8>),
    /// An answer was due, and nothing arrived for too long.
    Unresponsive,
}

impl DisconnectReason {
    /// Whether another attempt would end the same way.
    pub fn is_final(&self) -> bool {
        match self {
            DisconnectReason::Left | DisconnectReason::Protocol(_) | DisconnectReason::NotNative(_) => true,
            DisconnectReason::Closed | DisconnectReason::Unresponsive => false,
            DisconnectReason::Bye(name) => match (Reason::from_name(name), Refusal::from_name(name)) {
                (Some(reason), _) => is_final(reason),
                (None, refusal) => refusal == Some(Refusal::NotAllowed),
            },
            DisconnectReason::Refused { code: Code::Refused, text, .. } => text.contains(Refusal::NotAllowed.name()),
            DisconnectReason::Refused { code, about, .. } => code.is_fatal() || *about == kind::HELLO,
        }
    }
}

/// Whether a session that ended for this reason would end the same way again.
fn is_final(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Superseded
            | Reason::MessageTooLarge
            | Reason::Protocol
            | Reason::OutputOnly
            | Reason::Http
            | Reason::Closed
    )
}
