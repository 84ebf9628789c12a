//! Failures of a command: a message that names what failed, where, and what to do; and an exit status.
//!
//! The only place that maps the library's errors and the daemon's reasons to exit statuses.

use std::fmt;

use upcall_client::{Code, Error};
use upcall_wire::farewell::Farewell;
use upcall_wire::reason::{Reason, Refusal};

use crate::exit::Status;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    status: Status,
    message: String,
}

impl Failure {
    /// A failure that ends the program with `status`. Bytes that were received must be escaped in the message.
    pub(super) fn new(status: Status, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into() }
    }

    /// `listen` has reached its time limit before it printed `count` upcalls.
    pub(super) fn too_few_upcalls(count: u64) -> Failure {
        let too_few = if count == 1 { "no upcall".into() } else { format!("fewer than {count} upcalls") };
        Failure::new(Status::TimedOut, format!("{too_few} arrived in time"))
    }

    /// The exit status.
    pub(super) fn status(&self) -> Status {
        self.status
    }

    /// The same failure with a note appended to the message, after a semicolon.
    pub(super) fn with_note(self, note: &str) -> Failure {
        Failure { message: format!("{}; {note}", self.message), ..self }
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
            Error::Bye { reason, .. } => status_of_reason(reason),
            // The enum is non-exhaustive: a later version of the library may add a variant.
            _ => Status::Io,
        };
        let advice = match &error {
            Error::NotNative(_) => Some("use --protocol text for it"),
            Error::Bye { reason, .. } => advice(reason),
            _ => None,
        };
        let failure = Failure::new(status, error.to_string());
        match advice {
            Some(advice) => failure.with_note(advice),
            None => failure,
        }
    }
}

impl From<&Farewell> for Failure {
    fn from(farewell: &Farewell) -> Failure {
        let failure = Failure::new(status_of_reason(farewell.name()), farewell.to_string());
        match advice(farewell.name()) {
            Some(advice) => failure.with_note(advice),
            None => failure,
        }
    }
}

/// A hint about what the user can do about the daemon's reason, if there is one.
fn advice(reason: &str) -> Option<&'static str> {
    (reason == Reason::CredentialsRequired.name()).then_some("use --protocol native --token-file FILE")
}

/// The exit status of a program whose connection the daemon closed, or refused, for this reason.
fn status_of_reason(reason: &str) -> Status {
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
