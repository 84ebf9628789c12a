//! What a [`super::Machine`] is to be, and what it leaves behind.

use std::time::Duration;

use upcall_wire::frame::Role;

/// What carries the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Bytes in order, or none.
    Stream,
    /// Datagrams of at most this many bytes, that may get lost, come twice, or overtake each other.
    Datagrams(usize),
}

/// A session that can go on: after a broken connection, or in another process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The endpoint's number.
    pub id: u64,
    /// What proves that the session is ours.
    pub secret: [u8; 16],
    /// The log that `last` is a sequence of.
    pub log: u64,
    /// The last sequence that was dealt with.
    pub last: u64,
    /// The number of the next request.
    pub request: u32,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the secret.
        write!(f, "Ticket {{ id: {}, log: {:x}, last: {} }}", self.id, self.log, self.last)
    }
}

/// What to register as.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What carries the frames.
    pub carrier: Carrier,
    /// What the endpoint is for.
    pub role: Role,
    /// What it is called in the daemon's log; empty for nothing.
    pub name: String,
    /// The listener's shared secret.
    pub token: Option<Vec<u8>>,
    /// What it wants to hear of; nothing means everything.
    pub filters: Vec<String>,
    /// The first sequence that a new session wants of what was said before; 0 for the oldest there is.
    pub since: Option<u64>,
    /// The session that is to go on.
    pub resume: Option<Ticket>,
    /// How often to ask the daemon for a sign of life; over datagrams, at least as often as the lease is to be renewed.
    pub ping_interval: Duration,
    /// For how long nothing may come though something is to be answered.
    pub patience: Duration,
}

impl Settings {
    /// Nothing in particular.
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
            patience: Duration::from_secs(20),
        }
    }
}
