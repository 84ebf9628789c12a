//! What a [`super::Machine`] tells of, and in which words a registration ends.

use std::time::Duration;

use upcall_wire::frame::{Code, GapReason, kind};

/// An upcall, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcall {
    /// Its place in the one order.
    pub sequence: u64,
    /// The endpoint that it came from; 0 for somebody who is not registered.
    pub source: u64,
    /// When the daemon received it, in milliseconds since 1970 (UTC).
    pub time: u64,
    /// Its topic; empty where it has none.
    pub topic: String,
    /// The input, byte for byte.
    pub payload: Vec<u8>,
}

/// Why upcalls are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loss {
    /// We fell too far behind, and the daemon skips rather than disconnects.
    SlowConsumer,
    /// The daemon's log did not hold it any more when the session was resumed, or history was asked for.
    Evicted,
    /// It does not fit into a datagram.
    TooLarge,
    /// The daemon had forgotten the session, and a new one began.
    Session,
}

impl Loss {
    /// The name, as it is shown.
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

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The daemon has registered us.
    Welcomed {
        /// The session goes on.
        resumed: bool,
        /// The daemon has a log that is not the one of the session before: its sequences are others.
        new_log: bool,
        /// The first sequence that may come.
        start: u64,
        /// The sequence that the next input gets.
        next: u64,
    },
    /// An upcall, in order, once.
    Upcall(Upcall),
    /// Sequences that will not come.
    Gap {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
        /// Why.
        loss: Loss,
    },
    /// The daemon has taken an input.
    Receipt {
        /// Which.
        ticket: u64,
        /// Its place in the one order.
        sequence: u64,
        /// How many endpoints it was due to, we excluded.
        due: u32,
        /// The first receipt for it was lost.
        repeat: bool,
    },
    /// Whether the daemon has taken an input cannot be known any more. It is not sent again.
    Unknown {
        /// Which.
        ticket: u64,
    },
    /// The daemon has not taken an input, and will not.
    Rejected {
        /// Which.
        ticket: u64,
        /// Why.
        code: Code,
        /// In words.
        text: String,
    },
    /// A change of the filters is in force.
    Subscribed {
        /// Which request it was.
        request: u64,
        /// The first sequence that it goes for.
        from: u64,
        /// No filter was ever given.
        everything: bool,
        /// All filters in force.
        filters: Vec<String>,
    },
    /// A change of the filters was refused.
    NotSubscribed {
        /// Which request it was.
        request: u64,
        /// Why.
        code: Code,
        /// In words.
        text: String,
    },
    /// The answer to [`super::Machine::ping`].
    Pong {
        /// What that returned.
        nonce: u64,
        /// The time from asking to the answer.
        round_trip: Duration,
    },
    /// The daemon complains of something that we cannot place.
    Complaint {
        /// What.
        code: Code,
        /// In words.
        text: String,
    },
    /// The registration has ended, or did not come about.
    Down(Cause),
}

/// Why a registration ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// We said goodbye, and it was answered, or would not be.
    Left,
    /// The connection closed without a word, or broke.
    Closed,
    /// The daemon said goodbye: the name of a reason of `wire::reason`, or one that is not known here.
    Bye(String),
    /// The daemon said no.
    Refused {
        /// Why.
        code: Code,
        /// The kind of the frame that it is about; 0 for none.
        about: u8,
        /// In words.
        text: String,
    },
    /// What came is not what upcall-protocol(7) says.
    Protocol(String),
    /// What came is text: what it begins with.
    NotNative(Vec<u8>),
    /// Nothing came for too long, though something was to be answered.
    Silent,
}

impl Cause {
    /// Whether another attempt would end the same way.
    pub fn is_final(&self) -> bool {
        match self {
            Cause::Left | Cause::Protocol(_) | Cause::NotNative(_) => true,
            Cause::Closed | Cause::Silent => false,
            Cause::Bye(reason) => matches!(
                reason.as_str(),
                "superseded" | "not_allowed" | "message_too_large" | "protocol" | "output_only" | "http" | "closed"
            ),
            Cause::Refused { code: Code::Refused, text, .. } => text.contains("not_allowed"),
            Cause::Refused { code, about, .. } => code.is_fatal() || *about == kind::HELLO,
        }
    }
}
