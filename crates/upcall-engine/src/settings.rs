//! The settings of the engine. All of them may change while it runs.

use std::time::Duration;

use upcall_wire::format::Format;

/// Which endpoints an input is due to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Audience {
    /// Every registered endpoint, the sender included.
    #[default]
    All,
    /// Every registered endpoint but the sender.
    Others,
    /// The sender only.
    Sender,
}

/// What happens to an endpoint that falls further behind than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// It is disconnected.
    #[default]
    Disconnect,
    /// A native endpoint skips what it has not received, and a GAP announces that. Text streams are disconnected.
    Skip,
}

/// How long inputs are held for an endpoint that has fallen behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// At most this long. The budget refills over a minute.
    Limited(Duration),
    /// Forever: no endpoint is disconnected because of another endpoint's inputs.
    Forever,
}

/// The settings of the engine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How upcalls are rendered as text, from the next input on.
    pub format: Format,
    /// Which endpoints inputs are due to, from the next one on.
    pub audience: Audience,
    /// The most endpoints that may be registered.
    pub max_endpoints: usize,
    /// How long a datagram endpoint stays registered without renewing.
    pub lease: Duration,
    /// The largest payload of an input, in bytes.
    pub max_message: usize,
    /// How long a session may be resumed once its connection is gone.
    pub session_ttl: Duration,
    /// How long an unfinished message may take; `None` for no limit.
    pub message_timeout: Option<Duration>,
    /// How far behind an endpoint may fall: a distance in the log, in bytes.
    pub max_behind: u64,
    /// How long inputs are held for it.
    pub patience: Patience,
    /// What happens to it then. Text streams, which no GAP can be announced to, are disconnected in any case.
    pub policy: Policy,
    /// How long an endpoint that is about to leave may take to read what is still due to it.
    pub farewell: Duration,
}

impl Settings {
    /// What one turn may append, in bytes: half of how far behind an endpoint may be before inputs are held for it. So
    /// the first full socket is detected long before the policy would have to act.
    pub(crate) fn intake(&self) -> u64 {
        self.max_behind / 4
    }
}
