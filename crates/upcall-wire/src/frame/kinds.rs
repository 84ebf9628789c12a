//! The kinds of frames, their flags, and the options of a HELLO: numbers that are matched as bytes.

use crate::named::named_numbers;

named_numbers! {
    /// The kinds of frames. The client sends kinds below 0x20, the daemon sends kinds from 0x80 on, and both send those
    /// in between.
    pub mod kind {
        /// See [`Frame::Hello`](crate::frame::Frame::Hello).
        HELLO = 0x01,
        /// See [`Frame::Send`](crate::frame::Frame::Send).
        SEND = 0x02,
        /// See [`Frame::Subscribe`](crate::frame::Frame::Subscribe).
        SUBSCRIBE = 0x03,
        /// See [`Frame::Unsubscribe`](crate::frame::Frame::Unsubscribe).
        UNSUBSCRIBE = 0x04,
        /// See [`Frame::Ack`](crate::frame::Frame::Ack).
        ACK = 0x05,
        /// An endpoint's answer to an upcall. Reserved: no frame has this kind yet.
        REPLY = 0x06,
        /// The second byte of an [`Envelope`](crate::frame::datagram::Envelope), which is not a frame.
        DATAGRAM = 0x20,
        /// See [`Frame::Ping`](crate::frame::Frame::Ping).
        PING = 0x40,
        /// See [`Frame::Pong`](crate::frame::Frame::Pong).
        PONG = 0x41,
        /// See [`Frame::Bye`](crate::frame::Frame::Bye).
        BYE = 0x42,
        /// See [`Frame::Welcome`](crate::frame::Frame::Welcome).
        WELCOME = 0x81,
        /// See [`Frame::Retry`](crate::frame::Frame::Retry).
        RETRY = 0x82,
        /// See [`Frame::Upcall`](crate::frame::Frame::Upcall).
        UPCALL = 0x83,
        /// See [`Frame::Receipt`](crate::frame::Frame::Receipt).
        RECEIPT = 0x84,
        /// See [`Frame::Gap`](crate::frame::Frame::Gap).
        GAP = 0x85,
        /// See [`Frame::Subscribed`](crate::frame::Frame::Subscribed).
        SUBSCRIBED = 0x86,
        /// See [`Frame::Error`](crate::frame::Frame::Error).
        ERROR = 0x87,
        /// The first of the kinds that a receiver skips if it does not know them.
        SKIPPABLE = 0xc0,
    }
}

named_numbers! {
    /// The flags in a frame's header.
    pub mod flag {
        /// SEND: the client wants a receipt.
        RECEIPT = 0x01,
        /// RECEIPT: the SEND was a repeat.
        REPEAT = 0x10,
        /// SUBSCRIBED: the endpoint never had a filter, so it receives everything.
        EVERYTHING = 0x10,
        /// The critical flags. A receiver refuses a frame with a critical flag that it does not know, and ignores the
        /// others.
        CRITICAL = 0x0f,
    }
}

named_numbers! {
    /// The types of the options of a HELLO.
    pub mod option {
        /// The endpoint's name in the daemon's log.
        NAME = 1,
        /// The secret that the listener requires.
        TOKEN = 2,
        /// A filter; may appear several times.
        FILTER = 3,
        /// The session to resume: [`Resume`](crate::frame::Resume).
        RESUME = 4,
        /// The first sequence of the requested history.
        SINCE = 5,
        /// Datagrams: the cookie of a RETRY.
        COOKIE = 6,
        /// Padding: bytes without a meaning.
        PADDING = 7,
        /// The first of the types that a receiver skips if it does not know them.
        SKIPPABLE = 0x80,
    }
}
