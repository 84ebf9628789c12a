//! What can go wrong: the one error type of the library.

use std::fmt;

use upcall_wire::escape::Escaped;
use upcall_wire::farewell::Farewell;
use upcall_wire::frame::Code;
use upcall_wire::reason::Reason;

use crate::machine::Cause;

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for makes no sense: an address, a topic, a filter, a token that is none.
    Invalid(String),
    /// The host's name does not resolve.
    UnknownHost(String),
    /// Nobody is there, or the socket cannot be opened.
    Unreachable(String),
    /// This user may not use the socket.
    Denied(String),
    /// The connection broke, or reading and writing failed.
    Broken(String),
    /// Nothing came in time.
    TimedOut(String),
    /// The daemon, or its listener, speaks text.
    NotNative(String),
    /// What came is not what upcall-protocol(7) says.
    Protocol(String),
    /// The daemon said no.
    Refused {
        /// Why.
        code: Code,
        /// In its words, escaped.
        text: String,
    },
    /// The daemon said goodbye.
    Bye {
        /// Its reason, escaped, as `wire::reason` lists them.
        reason: String,
        /// The reason and what it means, for a person.
        explanation: String,
    },
    /// Whether the daemon has taken the input cannot be known any more; it is not sent again.
    Unknown,
    /// Upcalls came faster than they were taken, and more than can be kept.
    Overflow,
    /// The client was closed.
    Closed,
}

impl Error {
    /// Whether trying again would end the same way.
    pub fn is_final(&self) -> bool {
        matches!(self, Error::Denied(_) | Error::NotNative(_) | Error::Protocol(_) | Error::Invalid(_))
    }

    pub(super) fn refused(code: Code, text: &str) -> Error {
        Error::Refused { code, text: Escaped(text.as_bytes()).to_string() }
    }

    /// What the end of a registration means, on the way to `place`.
    pub(super) fn of(cause: &Cause, place: &str) -> Error {
        match cause {
            Cause::Left => Error::Closed,
            Cause::Closed => Error::Broken(format!("{place} closed the connection and did not say why")),
            Cause::Bye(reason) => bye(reason),
            Cause::Refused { code, text, .. } => Error::refused(*code, text),
            Cause::Protocol(what) => {
                Error::Protocol(format!("{place} broke the protocol: {}", Escaped(what.as_bytes())))
            }
            Cause::NotNative(said) => not_native(said, place),
            Cause::Silent => Error::TimedOut(format!("{place} has not answered for too long")),
        }
    }
}

fn bye(reason: &str) -> Error {
    let line = Farewell::line(reason);
    let explanation = match Farewell::parse(line.as_bytes()) {
        Some(farewell) => farewell.to_string(),
        None => "the daemon closed the connection".into(),
    };
    Error::Bye { reason: Escaped(reason.as_bytes()).to_string(), explanation }
}

/// Text came where frames should: a refusal from before the daemon knew what we speak, or a server without frames.
fn not_native(said: &[u8], place: &str) -> Error {
    let line = said.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
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
            Error::Unknown => {
                f.write_str("whether the daemon has taken the input cannot be known any more; it is not sent again")
            }
            Error::Overflow => f.write_str("upcalls come faster than they are taken, and there is no room for more"),
            Error::Closed => f.write_str("the client is closed"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_a_refusal() {
        let of = |said: &[u8]| Error::of(&Cause::NotNative(said.to_vec()), "tcp://x:1");
        for said in [&b"upcalld: protocol\n"[..], b"Upcall event: Processing x"] {
            assert!(matches!(of(said), Error::NotNative(_)), "{:?}", of(said));
        }
        for reason in ["max_endpoints", "not_allowed"] {
            let error = of(format!("upcalld: {reason}\n").as_bytes());
            assert!(matches!(&error, Error::Bye { reason: said, .. } if said == reason), "{error:?}");
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn what_strangers_say_is_escaped() {
        let cause = Cause::Refused { code: Code::Refused, about: 1, text: "\x1b[2J".into() };
        assert!(!Error::of(&cause, "x").to_string().contains('\x1b'));
        assert!(!Error::of(&Cause::Bye("\x1b".into()), "x").to_string().contains('\x1b'));
    }
}
