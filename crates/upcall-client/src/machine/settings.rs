//! How a [`Machine`](super::Machine) registers, and what it needs to resume its session.

use std::fmt;
use std::time::Duration;

use upcall_wire::frame::Role;

/// What carries the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A stream: bytes arrive in order, or the connection breaks.
    Stream,
    /// Datagrams of at most this many bytes. They may be lost, duplicated or reordered.
    Datagrams(usize),
}

/// What a client needs to resume a session, after a broken connection or in another process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ResumeTicket {
    /// The endpoint's number.
    pub id: u64,
    /// The secret that proves the ownership of the session.
    pub secret: [u8; 16],
    /// The id of the log that `last` is a position in.
    pub log: u64,
    /// The last sequence that was processed.
    pub last: u64,
    /// The id of the next request for a change of the filters.
    pub request: u32,
}

impl fmt::Debug for ResumeTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Omits the secret, which must not reach a log.
        write!(f, "ResumeTicket {{ id: {}, log: {:x}, last: {} }}", self.id, self.log, self.last)
    }
}

/// How to register.
#[derive(Clone)]
pub struct Settings {
    /// What carries the frames.
    pub carrier: Carrier,
    /// The role of the endpoint.
    pub role: Role,
    /// The endpoint's name in the daemon's log; empty for none.
    pub name: String,
    /// The secret that the listener requires.
    pub token: Option<Vec<u8>>,
    /// The initial filters; empty for everything.
    pub filters: Vec<String>,
    /// The first sequence of the history that a new session asks for; 0 for the oldest that the log holds.
    pub since: Option<u64>,
    /// The session to resume.
    pub resume: Option<ResumeTicket>,
    /// The interval of PINGs while nothing else happens. Over datagrams, at least three PINGs are sent per lease.
    pub ping_interval: Duration,
    /// How long to wait while an answer is due and nothing arrives. On a stream it is three times as long, because the
    /// daemon may hold inputs although nothing is wrong; over datagrams, at most three ping intervals.
    pub response_timeout: Duration,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Omits the token, which must not reach a log.
        f.debug_struct("Settings")
            .field("carrier", &self.carrier)
            .field("role", &self.role)
            .field("name", &self.name)
            .field("filters", &self.filters)
            .field("since", &self.since)
            .field("resume", &self.resume)
            .field("ping_interval", &self.ping_interval)
            .field("response_timeout", &self.response_timeout)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// The defaults: both roles, no name, token, filters or session, a PING every 30 s, 20 s for an answer.
    pub fn new(carrier: Carrier) -> Settings {
        Settings {
            carrier,
            role: Role::Both,
            name: String::new(),
            token: None,
            filters: Vec::new(),
            since: None,
            resume: None,
            ping_interval: Duration::from_secs(30),
            response_timeout: Duration::from_secs(20),
        }
    }
}
