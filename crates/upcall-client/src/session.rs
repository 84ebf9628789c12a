//! A session as text: what a program keeps to go on where it, or the one before it, stopped.

use std::fmt;
use std::str::FromStr;

use super::Error;
use crate::machine::Ticket;

const SCHEME: &str = "upcall1";

/// A session that can be resumed: by [`super::Builder::resume`], within the time that the daemon keeps it (`session_ttl`).
///
/// As text (`Display`, `FromStr`) it can be kept in a file. Whoever has it can take the session over: it is a secret. What
/// its `Debug` shows is none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Session(pub(super) Ticket);

impl Session {
    /// The last sequence that was taken from the client: of an upcall, or at the end of a gap.
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
        let Ticket { id, secret, log, last, request } = &self.0;
        write!(f, "{SCHEME}:{id:x}:{:032x}:{log:x}:{last:x}:{request:x}", u128::from_be_bytes(*secret))
    }
}

impl FromStr for Session {
    type Err = Error;

    fn from_str(text: &str) -> Result<Session, Error> {
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let parts: Vec<&str> = text.trim().split(':').collect();
        let read = || match parts.as_slice() {
            [SCHEME, id, secret, log, last, request] => Some(Ticket {
                id: number(id)?,
                secret: u128::from_str_radix(secret, 16).ok()?.to_be_bytes(),
                log: number(log)?,
                last: number(last)?,
                request: number(request)?.try_into().ok()?,
            }),
            _ => None,
        };
        read().map(Session).ok_or_else(|| Error::Invalid("that is not a session as this library writes them".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_round_trip_and_do_not_tell_their_secret() {
        let session = Session(Ticket { id: 7, secret: [0xab; 16], log: u64::MAX, last: 9, request: 3 });
        assert_eq!(session.to_string().parse::<Session>().unwrap(), session);
        assert!(!format!("{session:?}").contains("ab"));
        for wrong in ["", "upcall1:", "upcall2:7:ab:1:9:3", "upcall1:7:ab:1:9:3:4", "upcall1:7:ab:1:x:3"] {
            assert!(wrong.parse::<Session>().is_err(), "{wrong}");
        }
    }
}
