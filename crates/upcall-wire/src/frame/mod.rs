//! The native protocol: binary frames, as upcall-protocol(7) defines them. One type for every frame, read and written by
//! both sides; [`FrameDecoder`] cuts a stream into them, and [`datagram`] is what surrounds them on a datagram transport.

mod code;
pub mod datagram;
mod decode;
mod encode;
mod hello;
mod stream;

pub use code::{Code, GapReason, Violation};
pub use hello::{Hello, MAX_HELLO, MAX_TOKEN, Resume, Role, option};
pub use stream::FrameDecoder;

/// The version of the protocol that this is.
pub const VERSION: u8 = 1;

/// What precedes every body, in bytes.
pub const HEADER: usize = 8;

/// What an upcall costs beside its topic and payload, in bytes.
pub const UPCALL_OVERHEAD: usize = HEADER + 24;

/// What a SEND costs beside its topic and payload, in bytes.
pub const SEND_OVERHEAD: usize = HEADER + 8;

/// The longest name of an endpoint, in bytes.
pub const MAX_NAME: usize = 64;

/// The longest reason of a BYE, in bytes.
pub const MAX_REASON: usize = 64;

/// The numbers of the kinds.
pub mod kind {
    #![allow(missing_docs)]
    pub const HELLO: u8 = 0x01;
    pub const SEND: u8 = 0x02;
    pub const SUBSCRIBE: u8 = 0x03;
    pub const UNSUBSCRIBE: u8 = 0x04;
    pub const ACK: u8 = 0x05;
    /// An endpoint's answer to an upcall: not used yet.
    pub const REPLY: u8 = 0x06;
    /// Not a frame: what a datagram begins with.
    pub const DATAGRAM: u8 = 0x20;
    pub const PING: u8 = 0x40;
    pub const PONG: u8 = 0x41;
    pub const BYE: u8 = 0x42;
    pub const WELCOME: u8 = 0x81;
    pub const RETRY: u8 = 0x82;
    pub const UPCALL: u8 = 0x83;
    pub const RECEIPT: u8 = 0x84;
    pub const GAP: u8 = 0x85;
    pub const SUBSCRIBED: u8 = 0x86;
    pub const ERROR: u8 = 0x87;
    /// From here on, whoever does not know a kind skips the frame.
    pub const SKIPPABLE: u8 = 0xc0;
}

/// The flags that have a meaning.
pub mod flag {
    /// SEND: a receipt is wanted.
    pub const RECEIPT: u8 = 0x01;
    /// RECEIPT: it answers a repeat.
    pub const REPEAT: u8 = 0x10;
    /// SUBSCRIBED: no filter was ever given, everything is due.
    pub const EVERYTHING: u8 = 0x10;
    /// A receiver that does not know one of these must not go on; the others it ignores.
    pub const CRITICAL: u8 = 0x0f;
}

/// A frame, of either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// → Asks to be registered.
    Hello(Hello<'a>),
    /// → An input.
    Send(Send<'a>),
    /// → Adds filters.
    Subscribe(Filters<'a>),
    /// → Takes filters away.
    Unsubscribe(Filters<'a>),
    /// → Datagrams: what arrived.
    Ack(Ack),
    /// ↔ Is anybody there?
    Ping {
        /// What the PONG will say.
        nonce: u64,
        /// Datagrams: the proof of a new address.
        cookie: Option<u64>,
    },
    /// ↔ Somebody is.
    Pong {
        /// That of the PING.
        nonce: u64,
    },
    /// ↔ Leaves, and why.
    Bye(&'a str),
    /// ← Registered.
    Welcome(Welcome),
    /// ← Datagrams: prove your address.
    Retry {
        /// That of the HELLO or PING.
        nonce: u64,
        /// What to send back.
        cookie: u64,
    },
    /// ← An upcall.
    Upcall(Upcall<'a>),
    /// ← What became of a SEND.
    Receipt(Receipt),
    /// ← What this endpoint will not get.
    Gap(Gap),
    /// ← What is in force.
    Subscribed {
        /// That of the request.
        request: u32,
        /// The first sequence that this goes for.
        from: u64,
        /// No filter was ever given.
        everything: bool,
        /// All filters in force.
        filters: Vec<&'a str>,
    },
    /// ← Something was wrong.
    Error(ErrorFrame<'a>),
    /// A frame of a kind that may be skipped, and is.
    Skippable(u8),
}

impl Frame<'_> {
    /// Its kind's number.
    pub fn kind(&self) -> u8 {
        match self {
            Frame::Hello(_) => kind::HELLO,
            Frame::Send(_) => kind::SEND,
            Frame::Subscribe(_) => kind::SUBSCRIBE,
            Frame::Unsubscribe(_) => kind::UNSUBSCRIBE,
            Frame::Ack(_) => kind::ACK,
            Frame::Ping { .. } => kind::PING,
            Frame::Pong { .. } => kind::PONG,
            Frame::Bye(_) => kind::BYE,
            Frame::Welcome(_) => kind::WELCOME,
            Frame::Retry { .. } => kind::RETRY,
            Frame::Upcall(_) => kind::UPCALL,
            Frame::Receipt(_) => kind::RECEIPT,
            Frame::Gap(_) => kind::GAP,
            Frame::Subscribed { .. } => kind::SUBSCRIBED,
            Frame::Error(_) => kind::ERROR,
            Frame::Skippable(kind) => *kind,
        }
    }

    /// What an ERROR about it refers to: its message id, request id or nonce; 0 if it has none.
    pub fn reference(&self) -> u64 {
        match self {
            Frame::Hello(hello) => hello.nonce,
            Frame::Send(send) => send.id,
            Frame::Subscribe(change) | Frame::Unsubscribe(change) => change.request.into(),
            Frame::Ping { nonce, .. } | Frame::Pong { nonce } | Frame::Retry { nonce, .. } => *nonce,
            Frame::Receipt(receipt) => receipt.id,
            Frame::Subscribed { request, .. } => (*request).into(),
            _ => 0,
        }
    }
}

/// → An input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Send<'a> {
    /// 1, 2, 3 … in a session; a repeat has that of the first time.
    pub id: u64,
    /// A RECEIPT is wanted.
    pub receipt: bool,
    /// Empty for none.
    pub topic: &'a str,
    /// The input.
    pub payload: &'a [u8],
}

/// → A change of the filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filters<'a> {
    /// 1, 2, 3 … in a session.
    pub request: u32,
    /// At least one.
    pub filters: Vec<&'a str>,
}

/// → Which datagrams arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The largest number that has.
    pub largest: u64,
    /// Bit i: so has `largest` − 1 − i.
    pub bitmap: u64,
}

impl Ack {
    /// Whether it says that this number has arrived.
    pub fn contains(&self, number: u64) -> bool {
        match self.largest.checked_sub(number) {
            Some(0) => true,
            Some(distance @ 1..=64) => self.bitmap & (1 << (distance - 1)) != 0,
            _ => false,
        }
    }
}

/// ← A registration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// The version that is spoken from here on.
    pub version: u8,
    /// The session goes on.
    pub resumed: bool,
    /// Datagrams: the registration ends after so many milliseconds without a sign of life. 0 on streams.
    pub lease: u32,
    /// The endpoint's number.
    pub id: u64,
    /// What resumes the session. To be kept secret.
    pub secret: [u8; 16],
    /// Datagrams: what every datagram of the session carries. 0 on streams.
    pub key: u64,
    /// Another one means that the daemon has forgotten everything.
    pub log: u64,
    /// The first sequence that may be due to this endpoint.
    pub start: u64,
    /// The sequence that the next input gets.
    pub next: u64,
    /// That of the HELLO.
    pub nonce: u64,
    /// The last message id that was accepted in this session; 0 for none.
    pub last_message: u64,
    /// The largest payload that a SEND may have, in bytes.
    pub max_message: u32,
}

impl std::fmt::Debug for Welcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the secret nor the key is for anybody to read.
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
    /// Its place in the one order.
    pub sequence: u64,
    /// The endpoint that it came from; 0 for somebody who is not registered.
    pub source: u64,
    /// When it was received, in milliseconds since 1970 (UTC).
    pub time: u64,
    /// The low 32 bits of the sequence that was due to this endpoint before, or was announced to it as the end of a gap,
    /// or is the one before its start.
    pub prev: u32,
    /// Empty for none.
    pub topic: &'a str,
    /// The input.
    pub payload: &'a [u8],
}

/// ← What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// That of the SEND.
    pub id: u64,
    /// Its place in the one order.
    pub sequence: u64,
    /// How many endpoints it was due to, the sender excluded.
    pub due: u32,
    /// It answers a repeat.
    pub repeat: bool,
}

/// ← Sequences that this endpoint will not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first of them; what was due before it is what came before.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// Why.
    pub reason: GapReason,
}

/// ← Something was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorFrame<'a> {
    /// What.
    pub code: Code,
    /// The kind of the frame that it is about; 0 for none.
    pub about: u8,
    /// Its message id, request id or nonce; 0 for none.
    pub reference: u64,
    /// In words.
    pub text: &'a str,
}

#[cfg(test)]
mod tests;
