//! The farewell: the final line of a text stream, or the last datagram, in which the daemon gives the reason for
//! closing.
//!
//! Writes and recognizes the line, and explains the reason to a client. The reader of the stream decides whether a line
//! really is the final one.

use std::fmt;

use crate::reason::{Reason, Refusal};

const PREFIX: &str = "upcalld: ";

/// The longest name that is recognized, in bytes.
const MAX_NAME: usize = 32;

/// The reason in the daemon's final line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    name: String,
}

impl Farewell {
    /// The line for a reason's name, newline included.
    pub fn line(name: &str) -> String {
        format!("{PREFIX}{name}\n")
    }

    /// Parses a line, newline included, as a farewell. The daemon writes it as a line of its own: the same words at the
    /// end of another line are part of an upcall.
    pub fn parse(line: &[u8]) -> Option<Farewell> {
        let name = line.strip_suffix(b"\n")?.strip_prefix(PREFIX.as_bytes())?;
        let is_name = (1..=MAX_NAME).contains(&name.len()) && name.iter().all(|b| matches!(b, b'a'..=b'z' | b'_'));
        is_name.then(|| Farewell { name: String::from_utf8_lossy(name).into_owned() })
    }

    /// Parses a whole datagram as a farewell. The name must be a known one, because nothing else distinguishes a
    /// farewell from an upcall here.
    pub fn parse_datagram(datagram: &[u8]) -> Option<Farewell> {
        Farewell::parse(datagram).filter(|farewell| farewell.explanation().is_some())
    }

    /// Whether an incomplete line could still become a farewell.
    pub fn may_begin(line: &[u8]) -> bool {
        let common = line.len().min(PREFIX.len());
        line[..common] == PREFIX.as_bytes()[..common] && line.len() <= PREFIX.len() + MAX_NAME
    }

    /// Whether another connection would end the same way, so that reconnecting is pointless.
    pub fn is_final(&self) -> bool {
        matches!(Reason::from_name(&self.name), Some(Reason::MessageTooLarge | Reason::Http))
            || Refusal::from_name(&self.name) == Some(Refusal::NotAllowed)
    }

    /// Whether the connection was refused before it became an endpoint. `shutdown` can mean either and does not count
    /// as a refusal, because the daemon is expected to return.
    pub fn is_refusal(&self) -> bool {
        Refusal::from_name(&self.name).is_some() && Reason::from_name(&self.name).is_none()
    }

    /// The name of the reason: 1 to 32 lower-case letters and underscores, not necessarily one of [`Reason`] or
    /// [`Refusal`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the reason means to a client; `None` for a name that this version does not know.
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

    #[test]
    fn every_announced_reason_is_recognized_and_explained() {
        let announced = Reason::ALL.into_iter().filter(|reason| reason.is_announced()).map(Reason::name);
        for name in announced.chain(Refusal::ALL.into_iter().map(Refusal::name)) {
            let found = Farewell::parse(Farewell::line(name).as_bytes()).unwrap();
            assert_eq!(found.name, name);
            assert!(found.to_string().contains(&format!(": {name} (")), "{found}");
            assert!(found.explanation().is_some(), "{name}");
        }
    }

    #[test]
    fn only_a_line_of_its_own_or_a_known_name_is_a_farewell() {
        assert!(Farewell::parse(b"upcalld: from_the_future\n").is_some());
        assert_eq!(Farewell::parse(b"haiiupcalld: shutdown\n"), None);
        for line in [
            &b"upcalld: shutdown"[..],
            b"upcalld: Shut down\n",
            b"upcalld: \n",
            b"text upcalld: hello\n",
            b"upcalld: \x1b[2J\n",
            b"\n",
        ] {
            assert_eq!(Farewell::parse(line), None);
        }
    }

    #[test]
    fn a_datagram_is_a_farewell_only_as_a_whole() {
        assert!(Farewell::parse_datagram(b"upcalld: shutdown\n").is_some());
        for datagram in [&b"haiiupcalld: shutdown\n"[..], b"upcalld: from_the_future\n", b"upcalld: shutdown"] {
            assert_eq!(Farewell::parse_datagram(datagram), None);
        }
    }

    #[test]
    fn an_incomplete_line_may_become_a_farewell() {
        for (line, may) in [(&b"upc"[..], true), (b"upcalld: shut", true), (b"haii", false), (b"upcalls", false)] {
            assert_eq!(Farewell::may_begin(line), may);
        }
    }
}
