//! The final line of a stream, or the last datagram, that the daemon says goodbye with: recognizing it, and what it
//! means to a client.
//!
//! Knows the names in `wire::reason`; the splitter decides whether a line really is the final one.

use super::failure::Failure;
use crate::exit::Status;
use crate::wire::escape::Escaped;
use crate::wire::reason::{Reason, Refusal};

const PREFIX: &[u8] = b"upcalld: ";

/// Longer words are no reason, however they are spelled.
const MAX_NAME: usize = 32;

/// Why the daemon closed the connection, as its final line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Farewell {
    name: String,
}

impl Farewell {
    /// Reads a line with its newline as a farewell. The daemon gives it a line of its own: the same words behind others
    /// are what somebody said.
    pub(super) fn read(line: &[u8]) -> Option<Farewell> {
        let name = line.strip_suffix(b"\n")?.strip_prefix(PREFIX)?;
        let name_like = (1..=MAX_NAME).contains(&name.len()) && name.iter().all(|b| matches!(b, b'a'..=b'z' | b'_'));
        name_like.then(|| Farewell { name: Escaped(name).to_string() })
    }

    /// What a datagram says that is a farewell: nothing but its line, with a name that we know. Nothing else tells it
    /// from an upcall.
    pub(super) fn of_datagram(datagram: &[u8]) -> Option<Farewell> {
        Farewell::read(datagram).filter(|farewell| farewell.meaning().is_some())
    }

    /// Whether a line that is not yet complete may become a farewell.
    pub(super) fn may_become(tail: &[u8]) -> bool {
        let common = tail.len().min(PREFIX.len());
        tail[..common] == PREFIX[..common] && tail.len() <= PREFIX.len() + MAX_NAME
    }

    /// Whether another connection would end the same way, so that making one is pointless.
    pub(super) fn is_final(&self) -> bool {
        matches!(self.name.as_str(), "not_allowed" | "message_too_large" | "http")
    }

    /// Whether it says that the connection was not let in: it never was an endpoint. `shutdown` can mean either, and
    /// is no refusal here: the daemon is expected back.
    pub(super) fn is_refusal(&self) -> bool {
        Refusal::ALL.iter().any(|refusal| refusal.name() == self.name)
            && !Reason::ALL.iter().any(|reason| reason.name() == self.name)
    }

    /// The reason.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What it means, as a failure.
    pub(super) fn failure(&self) -> Failure {
        let (status, explanation) = self.meaning().unwrap_or((Status::Refused, "a reason this client does not know"));
        Failure::new(status, format!("the daemon closed the connection: {} ({explanation})", self.name))
    }

    fn meaning(&self) -> Option<(Status, &'static str)> {
        let reason = Reason::ALL.into_iter().find(|reason| reason.name() == self.name).map(of_reason);
        reason.or_else(|| Refusal::ALL.into_iter().find(|refusal| refusal.name() == self.name).map(of_refusal))
    }
}

fn of_reason(reason: Reason) -> (Status, &'static str) {
    match reason {
        Reason::Closed => (Status::Refused, "it took this side for closed"),
        Reason::Reset | Reason::Dead => (Status::Io, "it took the connection for broken"),
        Reason::LeaseExpired => (Status::TimedOut, "the lease was not renewed in time"),
        Reason::SlowConsumer => (Status::Io, "upcalls were not read fast enough; some are lost"),
        Reason::MessageTooLarge => (Status::BadData, "a message is larger than its max_message; send smaller ones"),
        Reason::MessageTimeout => (Status::TimedOut, "a message was begun and not ended in time"),
        Reason::Http => (Status::BadData, "the first line looks like an HTTP request, and those are refused"),
        Reason::Protocol => (Status::Protocol, "the first byte was NUL, and this listener speaks text only"),
        Reason::OutputOnly => (Status::Refused, "this listener takes no input; send to another one"),
        Reason::Silent => (Status::TimedOut, "nothing was said in time where a HELLO with credentials was wanted"),
        Reason::CredentialsRequired => {
            (Status::Denied, "this listener wants a token, which text cannot carry: use --protocol native --token-file")
        }
        Reason::Superseded => (Status::Refused, "the session was resumed over another connection"),
        Reason::ListenerRemoved => (Status::Refused, "its configuration no longer has this listener"),
        Reason::Shutdown => (Status::Refused, "it is ending; try again when it is back"),
    }
}

fn of_refusal(refusal: Refusal) -> (Status, &'static str) {
    match refusal {
        Refusal::MaxEndpoints => (Status::Refused, "as many clients as it allows are connected; try again later"),
        Refusal::ListenerMaxEndpoints => {
            (Status::Refused, "as many clients as this listener allows are connected; try again later")
        }
        Refusal::MaxPerSource => {
            (Status::Refused, "as many clients as it allows from this address or user are connected")
        }
        Refusal::NotAllowed => (Status::Denied, "its rules do not admit this address or user"),
        Refusal::Shutdown => of_reason(Reason::Shutdown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::reason::farewell;

    #[test]
    fn every_announced_reason_is_recognized_and_has_a_status() {
        let announced = Reason::ALL.into_iter().filter(|reason| reason.is_announced()).map(Reason::name);
        for name in announced.chain(Refusal::ALL.into_iter().map(Refusal::name)) {
            let found = Farewell::read(farewell(name).as_bytes()).unwrap();
            assert_eq!(found.name, name);
            assert!(found.failure().to_string().contains(&format!(": {name} (")), "{}", found.failure());
        }
    }

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
            assert_eq!(Farewell { name: name.into() }.failure().status(), status, "{name}");
        }
    }

    #[test]
    fn only_a_line_of_its_own_or_a_known_name_is_a_farewell() {
        assert!(Farewell::read(b"upcalld: from_the_future\n").is_some());
        assert_eq!(Farewell::read(b"haiiupcalld: shutdown\n"), None);
        for line in [
            &b"upcalld: shutdown"[..],
            b"upcalld: Shut down\n",
            b"upcalld: \n",
            b"he said upcalld: hello\n",
            b"upcalld: \x1b[2J\n",
            b"\n",
        ] {
            assert_eq!(Farewell::read(line), None);
        }
    }

    #[test]
    fn a_datagram_is_a_farewell_only_as_a_whole() {
        assert!(Farewell::of_datagram(b"upcalld: shutdown\n").is_some());
        for datagram in [&b"haiiupcalld: shutdown\n"[..], b"upcalld: from_the_future\n", b"upcalld: shutdown"] {
            assert_eq!(Farewell::of_datagram(datagram), None);
        }
    }

    #[test]
    fn an_unfinished_line_may_become_one() {
        for (tail, may) in [(&b"upc"[..], true), (b"upcalld: shut", true), (b"haii", false), (b"upcalls", false)] {
            assert_eq!(Farewell::may_become(tail), may);
        }
    }
}
