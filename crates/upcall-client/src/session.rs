//! A session as text, which a program can save so that it, or a later program, can resume the session.

use std::fmt;
use std::str::FromStr;

use super::Error;
use crate::machine::ResumeTicket;

/// The first field of the text, with the version of its format.
const SCHEME: &str = "upcall1";

/// A session that [`Builder::resume`](crate::Builder::resume) can resume, within the time that the daemon keeps it
/// (`session_ttl` of its configuration).
///
/// `Display` and `FromStr` convert it to and from a line of text, for a file. The text is a secret, because it is all
/// that is needed to take the session over. `Debug` does not show the secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Session(pub(super) ResumeTicket);

impl Session {
    /// The last sequence that was taken from the client, of an upcall or at the end of a gap. The session resumes after
    /// it.
    pub fn last(&self) -> u64 {
        self.0.last
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({:?})", self.0)
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ResumeTicket { id, secret, log, last, request } = &self.0;
        write!(f, "{SCHEME}:{id:x}:{:032x}:{log:x}:{last:x}:{request:x}", u128::from_be_bytes(*secret))
    }
}

impl FromStr for Session {
    type Err = Error;

    fn from_str(text: &str) -> Result<Session, Error> {
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let parts: Vec<&str> = text.trim().split(':').collect();
        let read = || match parts.as_slice() {
            [SCHEME, id, secret, log, last, request] => Some(ResumeTicket {
                id: number(id)?,
                secret: u128::from_str_radix(secret, 16).ok()?.to_be_bytes(),
                log: number(log)?,
                last: number(last)?,
                request: number(request)?.try_into().ok()?,
            }),
            _ => None,
        };
        read()
            .map(Session)
            .ok_or_else(|| Error::Invalid("the text is not a session in the format of this library".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_round_trip_and_debug_hides_the_secret() {
        let session = Session(ResumeTicket { id: 7, secret: [0xab; 16], log: u64::MAX, last: 9, request: 3 });
        assert_eq!(session.to_string().parse::<Session>().unwrap(), session);
        assert!(!format!("{session:?}").contains("ab"));
        for wrong in ["", "upcall1:", "upcall2:7:ab:1:9:3", "upcall1:7:ab:1:9:3:4", "upcall1:7:ab:1:x:3"] {
            assert!(wrong.parse::<Session>().is_err(), "{wrong}");
        }
    }
}
