//! The one error type of the library.

use std::fmt;

use upcall_wire::escape::Escaped;
use upcall_wire::farewell::Farewell;
use upcall_wire::frame::Code;
use upcall_wire::reason::Reason;

use crate::machine::DisconnectReason;

/// Why a call failed, or a connection ended.
///
/// The messages are human-readable, complete and safe to print: text from the daemon is escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// An argument is invalid: an address, a name, a topic, a filter, a token or a session.
    Invalid(String),
    /// The host name does not resolve.
    UnknownHost(String),
    /// Nothing listens at the address, or the socket cannot be opened.
    Unreachable(String),
    /// This user may not use the socket.
    Denied(String),
    /// The connection broke, or reading or writing failed.
    Broken(String),
    /// The daemon did not answer in time.
    TimedOut(String),
    /// The daemon or its listener uses text instead of the native protocol.
    NotNative(String),
    /// The daemon sent bytes that violate upcall-protocol(7).
    Protocol(String),
    /// The daemon refused, with an ERROR frame.
    Refused {
        /// What is wrong.
        code: Code,
        /// The daemon's human-readable explanation, escaped.
        text: String,
    },
    /// The daemon ended the session or the connection, with a reason.
    Bye {
        /// The name of the reason, escaped: usually one of [`Reason`] or [`Refusal`](upcall_wire::reason::Refusal).
        reason: String,
        /// The reason and its meaning, human-readable.
        explanation: String,
    },
    /// The input was sent, but there is no way left to find out whether the daemon accepted it. It is not sent again.
    Unknown,
    /// The client's buffer is full: upcalls arrived faster than they were taken.
    Overflow,
    /// The client was closed.
    Closed,
}

impl Error {
    /// Whether another attempt would fail the same way. The client does not retry its first connection after such an
    /// error.
    pub fn is_final(&self) -> bool {
        matches!(self, Error::Denied(_) | Error::NotNative(_) | Error::Protocol(_) | Error::Invalid(_))
    }

    pub(super) fn refused(code: Code, text: &str) -> Error {
        Error::Refused { code, text: Escaped(text.as_bytes()).to_string() }
    }

    /// The error for the end of a registration with the daemon at `place`.
    pub(super) fn from_disconnect(reason: &DisconnectReason, place: &str) -> Error {
        match reason {
            DisconnectReason::Left => Error::Closed,
            DisconnectReason::Closed => Error::Broken(format!("{place} closed the connection and gave no reason")),
            DisconnectReason::Bye(reason) => bye(reason),
            DisconnectReason::Refused { code, text, .. } => Error::refused(*code, text),
            DisconnectReason::Protocol(what) => {
                Error::Protocol(format!("{place} broke the protocol: {}", Escaped(what.as_bytes())))
            }
            DisconnectReason::NotNative(text) => not_native(text, place),
            DisconnectReason::Unresponsive => Error::TimedOut(format!("{place} has stopped answering")),
        }
    }
}

fn bye(reason: &str) -> Error {
    let explanation = match Farewell::parse(Farewell::line(reason).as_bytes()) {
        Some(farewell) => farewell.to_string(),
        None => "the daemon closed the connection".into(),
    };
    Error::Bye { reason: Escaped(reason.as_bytes()).to_string(), explanation }
}

/// The error for text in place of frames: a refusal that the daemon sent before it knew the client's protocol, or a
/// server that does not use frames.
fn not_native(text: &[u8], place: &str) -> Error {
    let line = text.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    match Farewell::parse(line) {
        Some(farewell) if farewell.name() != Reason::Protocol.name() => bye(farewell.name()),
        _ => Error::NotNative(format!("{place} does not speak the native protocol")),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid(text)
            | Error::UnknownHost(text)
            | Error::Unreachable(text)
            | Error::Denied(text)
            | Error::Broken(text)
            | Error::TimedOut(text)
            | Error::NotNative(text)
            | Error::Protocol(text) => f.write_str(text),
            Error::Refused { code, text } => write!(f, "the daemon refused: {code} ({text})"),
            Error::Bye { explanation, .. } => f.write_str(explanation),
            Error::Unknown => f.write_str("the daemon may or may not have accepted the input; it is not sent again"),
            Error::Overflow => f.write_str("the client's buffer is full: upcalls arrive faster than they are taken"),
            Error::Closed => f.write_str("the client is closed"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_not_mistaken_for_a_text_server() {
        let of = |text: &[u8]| Error::from_disconnect(&DisconnectReason::NotNative(text.to_vec()), "tcp://x:1");
        for text in [&b"upcalld: protocol\n"[..], b"Upcall event: Processing x"] {
            assert!(matches!(of(text), Error::NotNative(_)), "{:?}", of(text));
        }
        for name in ["max_endpoints", "not_allowed"] {
            let error = of(format!("upcalld: {name}\n").as_bytes());
            assert!(matches!(&error, Error::Bye { reason, .. } if reason == name), "{error:?}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn text_of_the_daemon_is_escaped() {
        let reason = DisconnectReason::Refused { code: Code::Refused, about: 1, text: "\x1b[2J".into() };
        assert!(!Error::from_disconnect(&reason, "x").to_string().contains('\x1b'));
        assert!(!Error::from_disconnect(&DisconnectReason::Bye("\x1b".into()), "x").to_string().contains('\x1b'));
    }
}
