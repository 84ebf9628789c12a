//! Why an endpoint left, or was not let in: the names that logs, counters, tests and the wire share.

use std::fmt;

/// Why an endpoint left the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The client closed its side; everything due until then was delivered.
    Closed,
    /// The connection broke: reset, aborted, unreachable.
    Reset,
    /// The peer acknowledged nothing for too long, or keepalive found it gone.
    Dead,
    /// Its lease was not renewed in time.
    LeaseExpired,
    /// It fell behind further than `slow_consumer.max_behind`.
    SlowConsumer,
    /// It sent a message larger than `upcall.max_message`.
    MessageTooLarge,
    /// It began a message and did not end it within `upcall.message_timeout`.
    MessageTimeout,
    /// Its first line was an HTTP request.
    Http,
    /// It broke the protocol, or speaks one that its listener does not.
    Protocol,
    /// It sent something to a listener whose role is `output`.
    OutputOnly,
    /// It said nothing where something had to be said.
    Silent,
    /// It speaks text where credentials are required, which text cannot carry.
    CredentialsRequired,
    /// Its session was resumed over another connection.
    Superseded,
    /// Its listener is no longer configured.
    ListenerRemoved,
    /// The daemon ends.
    Shutdown,
}

/// Why a connection was not let in. It never was an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// `registry.max_endpoints` are registered.
    MaxEndpoints,
    /// The listener's own `max_endpoints` are registered.
    ListenerMaxEndpoints,
    /// The listener's `max_per_source` are registered from this address or of this user.
    MaxPerSource,
    /// The listener's `allow` and `deny`, or `allow_users` and `allow_groups`, do not admit it.
    NotAllowed,
    /// The daemon is draining.
    Shutdown,
}

impl Reason {
    /// Every reason, in the order in which summaries list them.
    pub const ALL: [Reason; 15] = [
        Reason::Closed,
        Reason::Reset,
        Reason::Dead,
        Reason::LeaseExpired,
        Reason::SlowConsumer,
        Reason::MessageTooLarge,
        Reason::MessageTimeout,
        Reason::Http,
        Reason::Protocol,
        Reason::OutputOnly,
        Reason::Silent,
        Reason::CredentialsRequired,
        Reason::Superseded,
        Reason::ListenerRemoved,
        Reason::Shutdown,
    ];

    /// The name, as it stands in logs, in summaries and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Closed => "closed",
            Reason::Reset => "reset",
            Reason::Dead => "dead",
            Reason::LeaseExpired => "lease_expired",
            Reason::SlowConsumer => "slow_consumer",
            Reason::MessageTooLarge => "message_too_large",
            Reason::MessageTimeout => "message_timeout",
            Reason::Http => "http",
            Reason::Protocol => "protocol",
            Reason::OutputOnly => "output_only",
            Reason::Silent => "silent",
            Reason::CredentialsRequired => "credentials_required",
            Reason::Superseded => "superseded",
            Reason::ListenerRemoved => "listener_removed",
            Reason::Shutdown => "shutdown",
        }
    }

    /// Whether the daemon tells the endpoint why, in a final line: the reasons that are its own decision.
    pub const fn is_announced(self) -> bool {
        !matches!(self, Reason::Closed | Reason::Reset | Reason::Dead | Reason::LeaseExpired)
    }
}

impl Refusal {
    /// Every refusal, in the order in which summaries list them.
    pub const ALL: [Refusal; 5] = [
        Refusal::MaxEndpoints,
        Refusal::ListenerMaxEndpoints,
        Refusal::MaxPerSource,
        Refusal::NotAllowed,
        Refusal::Shutdown,
    ];

    /// The name, as it stands in logs, in summaries and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Refusal::MaxEndpoints => "max_endpoints",
            Refusal::ListenerMaxEndpoints => "listener_max_endpoints",
            Refusal::MaxPerSource => "max_per_source",
            Refusal::NotAllowed => "not_allowed",
            Refusal::Shutdown => "shutdown",
        }
    }
}

/// The final line of a text stream that the daemon closes on purpose.
pub fn farewell(name: &str) -> String {
    format!("upcalld: {name}\n")
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
