//! What can go wrong, for programs that want to know: each case says what, and how a program would exit.

use std::fmt;

use crate::client::failure::Failure;
use crate::client::farewell::Farewell;
use crate::client::machine::Cause;
use crate::exit::Status;
use crate::wire::escape::Escaped;
use crate::wire::frame::Code;

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
        /// What it means, for a person.
        explanation: String,
        /// How a program that ends because of it exits.
        status: Status,
    },
    /// Whether the daemon has taken the input cannot be known any more; it is not sent again.
    Unknown,
    /// Upcalls came faster than they were taken, and more than can be kept.
    Overflow,
    /// The client was closed.
    Closed,
}

impl Error {
    /// How a program that ends because of this exits (upcall-client(1)).
    pub fn status(&self) -> Status {
        match self {
            Error::Invalid(_) => Status::Usage,
            Error::UnknownHost(_) => Status::UnknownHost,
            Error::Unreachable(_) | Error::Closed => Status::Refused,
            Error::Denied(_) => Status::Denied,
            Error::Broken(_) | Error::Unknown | Error::Overflow => Status::Io,
            Error::TimedOut(_) => Status::TimedOut,
            Error::NotNative(_) | Error::Protocol(_) => Status::Protocol,
            Error::Refused { code, text } => match code {
                Code::Unauthorized | Code::NotPermitted => Status::Denied,
                Code::Refused if text.contains("not_allowed") => Status::Denied,
                Code::Refused | Code::Limit | Code::Busy | Code::UnknownSession => Status::Refused,
                Code::TooLarge | Code::BadTopic => Status::BadData,
                _ => Status::Protocol,
            },
            Error::Bye { status, .. } => *status,
        }
    }

    /// Whether trying again would end the same way.
    pub(in crate::client) fn is_final(&self) -> bool {
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
    let line = crate::wire::reason::farewell(reason);
    let (explanation, status) = match Farewell::read(line.as_bytes()).map(|farewell| farewell.failure()) {
        Some(failure) => (failure.to_string(), failure.status()),
        None => ("the daemon closed the connection".into(), Status::Refused),
    };
    Error::Bye { reason: Escaped(reason.as_bytes()).to_string(), explanation, status }
}

/// Text came where frames should: a refusal from before the daemon knew what we speak, or somebody who knows no frames.
fn not_native(said: &[u8], place: &str) -> Error {
    let line = said.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    match Farewell::read(line) {
        Some(farewell) if line != b"upcalld: protocol\n" => bye(farewell.name()),
        _ => Error::NotNative(format!("{place} does not speak the native protocol; use --protocol text for it")),
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

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        let text = failure.to_string();
        match failure.status() {
            Status::Usage => Error::Invalid(text),
            Status::UnknownHost => Error::UnknownHost(text),
            Status::Denied => Error::Denied(text),
            Status::TimedOut => Error::TimedOut(text),
            Status::Io => Error::Broken(text),
            _ => Error::Unreachable(text),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(error.status(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_a_refusal() {
        let of = |said: &[u8]| Error::of(&Cause::NotNative(said.to_vec()), "tcp://x:1");
        for (said, status, words) in [
            (&b"upcalld: protocol\n"[..], Status::Protocol, "--protocol text"),
            (b"Upcall event: Processing x", Status::Protocol, "--protocol text"),
            (b"upcalld: max_endpoints\n", Status::Refused, "max_endpoints"),
            (b"upcalld: not_allowed\n", Status::Denied, "not_allowed"),
        ] {
            assert_eq!(of(said).status(), status);
            assert!(of(said).to_string().contains(words), "{}", of(said));
        }
    }

    #[test]
    fn what_strangers_say_is_escaped() {
        let cause = Cause::Refused { code: Code::Refused, about: 1, text: "\x1b[2J".into() };
        assert!(!Error::of(&cause, "x").to_string().contains('\x1b'));
        assert!(!Error::of(&Cause::Bye("\x1b".into()), "x").to_string().contains('\x1b'));
    }
}
