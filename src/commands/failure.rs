//! What went wrong: in words that say what, where and what to do, and as an exit status.

use std::fmt;
use std::io::{self, Write};

use upcall_client::{Code, Error};
use upcall_wire::farewell::Farewell;
use upcall_wire::reason::{Reason, Refusal};

use crate::exit::Status;

/// Why a command could not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    status: Status,
    message: String,
}

impl Failure {
    /// A failure that ends the program with `status`. The message must hold no raw bytes of strangers.
    pub(super) fn new(status: Status, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into() }
    }

    /// Standard output could not be written, for another reason than that its reader is gone.
    pub(super) fn output(error: &io::Error) -> Failure {
        Failure::new(Status::Io, format!("cannot write to standard output: {error}"))
    }

    /// How to exit.
    pub(super) fn status(&self) -> Status {
        self.status
    }

    /// The same with something added, behind a semicolon.
    pub(super) fn and(self, addition: &str) -> Failure {
        Failure { message: format!("{}; {addition}", self.message), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match &error {
            Error::Invalid(_) => Status::Usage,
            Error::UnknownHost(_) => Status::UnknownHost,
            Error::Unreachable(_) | Error::Closed => Status::Refused,
            Error::Denied(_) => Status::Denied,
            Error::Broken(_) | Error::Unknown | Error::Overflow => Status::Io,
            Error::TimedOut(_) => Status::TimedOut,
            Error::NotNative(_) | Error::Protocol(_) => Status::Protocol,
            Error::Refused { code, text } => match code {
                Code::Unauthorized | Code::NotPermitted => Status::Denied,
                Code::Refused if text.contains(Refusal::NotAllowed.name()) => Status::Denied,
                Code::Refused | Code::Limit | Code::Busy | Code::UnknownSession => Status::Refused,
                Code::TooLarge | Code::BadTopic => Status::BadData,
                _ => Status::Protocol,
            },
            Error::Bye { reason, .. } => of_reason(reason),
            // A kind of error that a later version of the library has.
            _ => Status::Io,
        };
        let advice = match &error {
            Error::NotNative(_) => Some("use --protocol text for it"),
            Error::Bye { reason, .. } => advice(reason),
            _ => None,
        };
        let failure = Failure::new(status, error.to_string());
        match advice {
            Some(advice) => failure.and(advice),
            None => failure,
        }
    }
}

impl From<&Farewell> for Failure {
    fn from(farewell: &Farewell) -> Failure {
        let failure = Failure::new(of_reason(farewell.name()), farewell.to_string());
        match advice(farewell.name()) {
            Some(advice) => failure.and(advice),
            None => failure,
        }
    }
}

/// What to do about the reason that the daemon gave, where there is something.
fn advice(reason: &str) -> Option<&'static str> {
    (reason == Reason::CredentialsRequired.name()).then_some("use --protocol native --token-file FILE")
}

/// How a program ends whose connection the daemon closed for this reason, or did not let in.
fn of_reason(reason: &str) -> Status {
    let reason_status = Reason::from_name(reason).map(|reason| match reason {
        Reason::Reset | Reason::Dead | Reason::SlowConsumer => Status::Io,
        Reason::LeaseExpired | Reason::MessageTimeout | Reason::Silent => Status::TimedOut,
        Reason::MessageTooLarge | Reason::Http => Status::BadData,
        Reason::Protocol => Status::Protocol,
        Reason::CredentialsRequired => Status::Denied,
        Reason::Closed | Reason::OutputOnly | Reason::Superseded | Reason::ListenerRemoved | Reason::Shutdown => {
            Status::Refused
        }
    });
    let refused = || (reason == Refusal::NotAllowed.name()).then_some(Status::Denied);
    reason_status.or_else(refused).unwrap_or(Status::Refused)
}

/// Says something to the person, on stderr, in one write. `eprintln!` would panic where stderr is closed.
pub(super) fn say(message: &impl fmt::Display) {
    let line = format!("upcall-client: {message}\n");
    // With stderr gone there is nobody left to tell.
    let _ = io::stderr().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_the_reason() {
        for (name, status) in [
            ("not_allowed", Status::Denied),
            ("max_endpoints", Status::Refused),
            ("shutdown", Status::Refused),
            ("output_only", Status::Refused),
            ("message_too_large", Status::BadData),
            ("http", Status::BadData),
            ("message_timeout", Status::TimedOut),
            ("slow_consumer", Status::Io),
            ("from_the_future", Status::Refused),
        ] {
            let farewell = Farewell::parse(format!("upcalld: {name}\n").as_bytes()).unwrap();
            assert_eq!(Failure::from(&farewell).status(), status, "{name}");
        }
    }

    #[test]
    fn advice_names_the_option() {
        let error = Error::NotNative("tcp://x:1 does not speak the native protocol".into());
        assert!(Failure::from(error).to_string().ends_with("use --protocol text for it"));
        let farewell = Farewell::parse(b"upcalld: credentials_required\n").unwrap();
        assert!(Failure::from(&farewell).to_string().contains("--token-file"));
    }
}
