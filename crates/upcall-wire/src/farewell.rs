//! The final line of a stream, or the last datagram, that the daemon says goodbye with: recognizing it, and what it
//! means to a client.
//!
//! Knows the names in [`crate::reason`]. The reader of the stream decides whether a line really is the final one.

use std::fmt;

use crate::reason::{Reason, Refusal};

const PREFIX: &[u8] = b"upcalld: ";

/// Longer words are no reason, however they are spelled.
const MAX_NAME: usize = 32;

/// Why the daemon closed the connection, as its final line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    name: String,
}

impl Farewell {
    /// Reads a line with its newline as a farewell. The daemon gives it a line of its own: the same words behind others
    /// are what somebody said.
    pub fn read(line: &[u8]) -> Option<Farewell> {
        let name = line.strip_suffix(b"\n")?.strip_prefix(PREFIX)?;
        let name_like = (1..=MAX_NAME).contains(&name.len()) && name.iter().all(|b| matches!(b, b'a'..=b'z' | b'_'));
        name_like.then(|| Farewell { name: String::from_utf8_lossy(name).into_owned() })
    }

    /// What a datagram says that is a farewell: nothing but its line, with a name that we know. Nothing else tells it
    /// from an upcall.
    pub fn of_datagram(datagram: &[u8]) -> Option<Farewell> {
        Farewell::read(datagram).filter(|farewell| farewell.explanation().is_some())
    }

    /// Whether a line that is not yet complete may become a farewell.
    pub fn may_become(tail: &[u8]) -> bool {
        let common = tail.len().min(PREFIX.len());
        tail[..common] == PREFIX[..common] && tail.len() <= PREFIX.len() + MAX_NAME
    }

    /// Whether another connection would end the same way, so that making one is pointless.
    pub fn is_final(&self) -> bool {
        matches!(self.name.as_str(), "not_allowed" | "message_too_large" | "http")
    }

    /// Whether it says that the connection was not let in: it never was an endpoint. `shutdown` can mean either, and
    /// is no refusal here: the daemon is expected back.
    pub fn is_refusal(&self) -> bool {
        Refusal::from_name(&self.name).is_some() && Reason::from_name(&self.name).is_none()
    }

    /// The name of the reason: lower-case letters and underscores.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the reason means to a client, where the name is a known one.
    pub fn explanation(&self) -> Option<&'static str> {
        let reason = Reason::from_name(&self.name).map(Reason::explanation);
        reason.or_else(|| Refusal::from_name(&self.name).map(Refusal::explanation))
    }
}

impl fmt::Display for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let explanation = self.explanation().unwrap_or("a reason this client does not know");
        write!(f, "the daemon closed the connection: {} ({explanation})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::farewell;

    #[test]
    fn every_announced_reason_is_recognized_and_explained() {
        let announced = Reason::ALL.into_iter().filter(|reason| reason.is_announced()).map(Reason::name);
        for name in announced.chain(Refusal::ALL.into_iter().map(Refusal::name)) {
            let found = Farewell::read(farewell(name).as_bytes()).unwrap();
            assert_eq!(found.name, name);
            assert!(found.to_string().contains(&format!(": {name} (")), "{found}");
            assert!(found.explanation().is_some(), "{name}");
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
