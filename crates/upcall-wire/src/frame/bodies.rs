//! The bodies of frames: one struct for each body with more than a few fields. HELLO is in `hello`.
//!
//! The arrows show the direction: → from the client to the daemon, ← from the daemon to the client.

use std::fmt;

use super::code::{Code, GapReason};

/// → An input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send<'a> {
    /// The message id: 1, 2, 3 … in a session. A repeat has the id of the first transmission.
    pub id: u64,
    /// Whether the client wants a RECEIPT.
    pub receipt: bool,
    /// The topic; empty for none.
    pub topic: &'a str,
    /// The input, byte for byte.
    pub payload: &'a [u8],
}

/// → A change of the endpoint's filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filters<'a> {
    /// The request id: 1, 2, 3 … in a session.
    pub request: u32,
    /// The filters to add or to remove, at least one.
    pub filters: Vec<&'a str>,
}

/// → Acknowledges the datagrams that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The largest number that arrived.
    pub largest: u64,
    /// Bit i is set if number `largest` − 1 − i arrived.
    pub bitmap: u64,
}

impl Ack {
    /// Whether it acknowledges this number.
    pub fn contains(&self, number: u64) -> bool {
        match self.largest.checked_sub(number) {
            Some(0) => true,
            Some(distance @ 1..=64) => self.bitmap & (1 << (distance - 1)) != 0,
            _ => false,
        }
    }
}

/// ← Confirms a registration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// The version of the protocol that both sides use from here on.
    pub version: u8,
    /// Whether this resumes the session that the HELLO named.
    pub resumed: bool,
    /// Datagrams: the registration ends after this time without a message from the client, in milliseconds. 0 on
    /// streams.
    pub lease: u32,
    /// The endpoint's number.
    pub id: u64,
    /// The secret that resumes the session. The client must not disclose it.
    pub secret: [u8; 16],
    /// Datagrams: the key that every datagram of the session carries. 0 on streams.
    pub key: u64,
    /// The log's id. It changes when the daemon starts with an empty log.
    pub log: u64,
    /// The first sequence that may be due to this endpoint.
    pub start: u64,
    /// The sequence that the next input gets.
    pub next: u64,
    /// The nonce of the HELLO.
    pub nonce: u64,
    /// The last message id that was accepted in this session; 0 for none.
    pub last_message: u64,
    /// The largest payload that a SEND may have, in bytes.
    pub max_message: u32,
}

impl fmt::Debug for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret and the key are omitted, so that they never reach a log.
        f.debug_struct("Welcome")
            .field("resumed", &self.resumed)
            .field("id", &self.id)
            .field("log", &self.log)
            .field("start", &self.start)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// ← An upcall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upcall<'a> {
    /// Its position in the log.
    pub sequence: u64,
    /// The number of the endpoint that sent the input; 0 for a sender that is not registered. 48 bits are transmitted.
    pub source: u64,
    /// When the daemon received the input, in milliseconds since 1970 (UTC). 48 bits are transmitted.
    pub time: u64,
    /// The low 32 bits of the sequence that precedes it for this endpoint: that of the previous upcall, the end of the
    /// previous gap, or the start minus 1.
    pub prev: u32,
    /// The topic; empty for none.
    pub topic: &'a str,
    /// The input, byte for byte.
    pub payload: &'a [u8],
}

/// ← The confirmation of a SEND.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The message id of the SEND.
    pub id: u64,
    /// The input's position in the log.
    pub sequence: u64,
    /// How many endpoints the input was due to, not counting the sender.
    pub due: u32,
    /// Whether the SEND repeats one that was accepted before.
    pub repeat: bool,
}

/// ← Sequences that this endpoint does not receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first of them. It directly follows the sequence that precedes the gap for this endpoint.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// Why.
    pub reason: GapReason,
}

/// ← An error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorFrame<'a> {
    /// What is wrong.
    pub code: Code,
    /// The kind of the frame that caused it; 0 for none.
    pub about: u8,
    /// The message id, request id or nonce of that frame; 0 for none.
    pub reference: u64,
    /// A human-readable explanation.
    pub text: &'a str,
}
