//! The states of the machine.

use std::fmt;

use upcall_wire::frame::Resume;

use super::timing::Attempt;

/// The progress of the registration.
pub(super) enum Registration {
    /// There is no connection.
    Disconnected,
    /// A HELLO has been sent, or is about to be.
    AwaitingWelcome { nonce: u64, cookie: Option<u64>, resume: Option<Resume>, attempt: Attempt },
    /// The daemon has registered this client.
    Registered { key: u64, max_message: usize },
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Omits the key and the cookie, which are secrets.
        match self {
            Registration::Disconnected => f.write_str("Disconnected"),
            Registration::AwaitingWelcome { resume, attempt, .. } => {
                let mut out = f.debug_struct("AwaitingWelcome");
                out.field("resume", resume).field("attempt", attempt).finish_non_exhaustive()
            }
            Registration::Registered { max_message, .. } => {
                f.debug_struct("Registered").field("max_message", max_message).finish_non_exhaustive()
            }
        }
    }
}

/// Whether the machine is still in use.
#[derive(Debug)]
pub(super) enum Lifecycle {
    /// In use: it registers again after a lost connection.
    Active,
    /// Leaving: the BYE is sent once every input is answered.
    Leaving(Attempt),
    /// Not in use any more: `connect` has no effect.
    Over,
}

/// A PING without an answer.
#[derive(Debug)]
pub(super) struct Ping {
    pub(super) nonce: u64,
    pub(super) cookie: Option<u64>,
    /// Whether the caller requested it and receives an event.
    pub(super) by_caller: bool,
    pub(super) attempt: Attempt,
}
