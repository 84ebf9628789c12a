//! The native protocol: binary frames, as upcall-protocol(7) defines them.
//!
//! [`Frame`] is one type for all frames of both directions, written and parsed by both sides. [`FrameDecoder`] finds
//! the frames in a stream; [`datagram`] adds what precedes them in a datagram.

mod bodies;
mod code;
pub mod datagram;
mod decode;
mod encode;
mod header;
mod hello;
mod kinds;
mod limits;
mod reader;
mod stream;

pub use bodies::{Ack, ErrorFrame, Filters, Gap, Receipt, Send, Upcall, Welcome};
pub use code::{Code, GapReason, Violation};
pub use hello::{Hello, Resume, Role};
pub use kinds::{flag, kind, option};
pub use limits::{HEADER, MAX_HELLO, MAX_NAME, MAX_REASON, MAX_TOKEN, SEND_OVERHEAD, UPCALL_OVERHEAD, VERSION};
pub use stream::FrameDecoder;

/// A frame. The arrows show the direction: → from the client to the daemon, ← from the daemon to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// → Requests a registration.
    Hello(Hello<'a>),
    /// → An input.
    Send(Send<'a>),
    /// → Adds filters.
    Subscribe(Filters<'a>),
    /// → Removes filters.
    Unsubscribe(Filters<'a>),
    /// → Datagrams: acknowledges what arrived.
    Ack(Ack),
    /// ↔ Asks for a PONG.
    Ping {
        /// Repeated in the PONG.
        nonce: u64,
        /// Datagrams: the cookie of a RETRY, which proves a new address.
        cookie: Option<u64>,
    },
    /// ↔ Answers a PING.
    Pong {
        /// The nonce of the PING.
        nonce: u64,
    },
    /// ↔ Ends the registration. The text is the name of the reason.
    Bye(&'a str),
    /// ← Confirms the registration.
    Welcome(Welcome),
    /// ← Datagrams: asks the client to repeat the frame with this cookie, which proves its address.
    Retry {
        /// The nonce of the HELLO or PING.
        nonce: u64,
        /// The cookie to send back.
        cookie: u64,
    },
    /// ← An upcall.
    Upcall(Upcall<'a>),
    /// ← Confirms a SEND.
    Receipt(Receipt),
    /// ← Sequences that this endpoint does not receive.
    Gap(Gap),
    /// ← Answers SUBSCRIBE and UNSUBSCRIBE with the filters in force.
    Subscribed {
        /// The id of the request.
        request: u32,
        /// The first sequence that the filters apply to.
        from: u64,
        /// Whether the endpoint never had a filter, so that it receives everything.
        everything: bool,
        /// All filters in force.
        filters: Vec<&'a str>,
    },
    /// ← An error.
    Error(ErrorFrame<'a>),
    /// A frame of an unknown kind, from [`kind::SKIPPABLE`] on. The receiver ignores it.
    Skippable(u8),
}

impl Frame<'_> {
    /// The number of its kind: one of [`kind`].
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

#[cfg(test)]
mod tests;
