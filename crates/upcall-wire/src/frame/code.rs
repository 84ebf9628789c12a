//! What can be wrong, as an enumerated list: ERROR's codes, and GAP's reasons.

use std::fmt;

use crate::named_enum;

named_enum! {
    /// What an ERROR is about.
    #[repr(u16)]
    pub enum Code {
        /// A frame that is not as upcall-protocol(7) says.
        Malformed = 1 => "malformed",
        /// A kind that is not known, and not one that may be skipped.
        UnknownKind = 2 => "unknown_kind",
        /// A flag that is not known, and not one that may be ignored.
        UnknownFlag = 3 => "unknown_flag",
        /// A frame, or a payload, that is larger than allowed.
        TooLarge = 4 => "too_large",
        /// A frame that cannot come here: another before HELLO, a second HELLO, one of the other direction.
        Unexpected = 5 => "unexpected",
        /// None of the versions offered is spoken.
        Version = 6 => "version",
        /// The listener wants a token, and this is none, or not the right one.
        Unauthorized = 7 => "unauthorized",
        /// It would be one endpoint too many, or the like: the text says which rule.
        Refused = 8 => "refused",
        /// The role of the endpoint or of the listener does not allow it, or the listener has no history.
        NotPermitted = 9 => "not_permitted",
        /// A repeated message whose receipt is no longer kept.
        Stale = 10 => "stale",
        /// Datagrams: inputs wait; to be sent again with the same message id.
        Busy = 11 => "busy",
        /// There is no such session (any more), or it is another's. Another HELLO may follow.
        UnknownSession = 12 => "unknown_session",
        /// Too many filters, or too long ones together.
        Limit = 13 => "limit",
        /// A topic or a filter that is none.
        BadTopic = 14 => "bad_topic",
        /// A message id that is not the next one.
        OutOfOrder = 15 => "out_of_order",
    }
}

impl Code {
    /// The code with this number.
    pub fn from_number(number: u16) -> Option<Code> {
        Code::ALL.into_iter().find(|code| *code as u16 == number)
    }

    /// Whether a frame was no frame, or came where it cannot: no client that keeps to the protocol is told so.
    pub const fn is_mistake(self) -> bool {
        matches!(self, Code::Malformed | Code::UnknownKind | Code::UnknownFlag | Code::Unexpected)
    }

    /// Whether a stream ends behind it.
    pub const fn is_fatal(self) -> bool {
        !matches!(
            self,
            Code::NotPermitted | Code::Stale | Code::Busy | Code::UnknownSession | Code::Limit | Code::BadTopic
        )
    }
}

/// What is wrong with bytes that should be a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// What.
    pub code: Code,
    /// The kind that the frame claims to be; 0 where it is none.
    pub about: u8,
    /// Its message id, request id or, of a HELLO, nonce, where that much could be read.
    pub reference: u64,
    /// In words.
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
    /// Why an endpoint will not get something.
    #[repr(u8)]
    pub enum GapReason {
        /// It fell too far behind, and the policy is `skip`.
        SlowConsumer = 1 => "slow_consumer",
        /// The log did not hold it any more when the session was resumed, or history was asked for.
        Evicted = 2 => "evicted",
        /// It does not fit into a datagram.
        TooLarge = 3 => "too_large",
    }
}

impl GapReason {
    /// The reason with this number.
    pub fn from_number(number: u8) -> Option<GapReason> {
        GapReason::ALL.into_iter().find(|reason| *reason as u8 == number)
    }
}
