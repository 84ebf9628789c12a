//! The codes of ERROR and the reasons of GAP, and a violation of the protocol.

use std::fmt;

use crate::named_enum;

named_enum! {
    /// What an ERROR frame reports.
    pub enum Code: u16 {
        /// A frame whose bytes do not follow upcall-protocol(7).
        Malformed = 1 => "malformed",
        /// An unknown kind of frame that may not be skipped.
        UnknownKind = 2 => "unknown_kind",
        /// An unknown flag that may not be ignored.
        UnknownFlag = 3 => "unknown_flag",
        /// A frame, or a payload, that is larger than allowed.
        TooLarge = 4 => "too_large",
        /// A frame that is not allowed here: any before HELLO, a second HELLO, a frame of the other direction.
        Unexpected = 5 => "unexpected",
        /// The daemon implements none of the offered versions.
        Version = 6 => "version",
        /// The listener requires a token, and the HELLO has none or a wrong one.
        Unauthorized = 7 => "unauthorized",
        /// A limit or a rule does not admit the endpoint: the text names it.
        Refused = 8 => "refused",
        /// The role of the endpoint or of the listener does not allow it, or the listener offers no history.
        NotPermitted = 9 => "not_permitted",
        /// A repeated message whose receipt is no longer kept.
        Stale = 10 => "stale",
        /// Datagrams: the daemon accepts no input for now. The client repeats it later with the same message id.
        Busy = 11 => "busy",
        /// The session does not exist, no longer exists, or belongs to another endpoint. The client may send another
        /// HELLO.
        UnknownSession = 12 => "unknown_session",
        /// Too many filters, or too many bytes in all of them together.
        Limit = 13 => "limit",
        /// Text that is not a topic, or not a filter.
        BadTopic = 14 => "bad_topic",
        /// A message id that is not the next one.
        OutOfOrder = 15 => "out_of_order",
    }
}

impl Code {
    /// Whether it reports a mistake of the client. A client that follows the protocol never receives such a code.
    pub const fn is_mistake(self) -> bool {
        matches!(self, Code::Malformed | Code::UnknownKind | Code::UnknownFlag | Code::Unexpected)
    }

    /// Whether the daemon closes a stream after it.
    pub const fn is_fatal(self) -> bool {
        !matches!(
            self,
            Code::NotPermitted | Code::Stale | Code::Busy | Code::UnknownSession | Code::Limit | Code::BadTopic
        )
    }
}

/// What is wrong with bytes that should be a frame, as an ERROR reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// The kind of mistake.
    pub code: Code,
    /// The kind of the frame; 0 if it has none.
    pub about: u8,
    /// Its message id, request id or nonce; 0 if it has none, or that part could not be read.
    pub reference: u64,
    /// A human-readable explanation.
    pub text: &'static str,
}

impl Violation {
    pub(super) const fn new(code: Code, about: u8, text: &'static str) -> Violation {
        Violation { code, about, reference: 0, text }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

impl std::error::Error for Violation {}

named_enum! {
    /// Why an endpoint does not receive some upcalls.
    pub enum GapReason: u8 {
        /// The endpoint fell too far behind, and the slow policy is `skip`.
        SlowConsumer = 1 => "slow_consumer",
        /// The log no longer held them when the session was resumed, or when history was requested.
        Evicted = 2 => "evicted",
        /// The upcall does not fit into a datagram.
        TooLarge = 3 => "too_large",
    }
}
