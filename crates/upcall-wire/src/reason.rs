//! Why an endpoint left, or was not let in: the names that logs, counters, tests and the wire share.

use crate::named_enum;

named_enum! {
    /// Why an endpoint left the registry.
    pub enum Reason {
        /// The client closed its side; everything due until then was delivered.
        Closed => "closed",
        /// The connection broke: reset, aborted, unreachable.
        Reset => "reset",
        /// The peer acknowledged nothing for too long, or keepalive found it gone.
        Dead => "dead",
        /// Its lease was not renewed in time.
        LeaseExpired => "lease_expired",
        /// It fell behind further than `slow_consumer.max_behind`.
        SlowConsumer => "slow_consumer",
        /// It sent a message larger than `upcall.max_message`.
        MessageTooLarge => "message_too_large",
        /// It began a message and did not end it within `upcall.message_timeout`.
        MessageTimeout => "message_timeout",
        /// Its first line was an HTTP request.
        Http => "http",
        /// It broke the protocol, or speaks one that its listener does not.
        Protocol => "protocol",
        /// It sent something to a listener whose role is `output`.
        OutputOnly => "output_only",
        /// It said nothing where something had to be said.
        Silent => "silent",
        /// It speaks text where credentials are required, which text cannot carry.
        CredentialsRequired => "credentials_required",
        /// Its session was resumed over another connection.
        Superseded => "superseded",
        /// Its listener is no longer configured.
        ListenerRemoved => "listener_removed",
        /// The daemon ends.
        Shutdown => "shutdown",
    }
}

named_enum! {
    /// Why a connection was not let in. It never was an endpoint.
    pub enum Refusal {
        /// `registry.max_endpoints` are registered.
        MaxEndpoints => "max_endpoints",
        /// The listener's own `max_endpoints` are registered.
        ListenerMaxEndpoints => "listener_max_endpoints",
        /// The listener's `max_per_source` are registered from this address or of this user.
        MaxPerSource => "max_per_source",
        /// The listener's `allow` and `deny`, or `allow_users` and `allow_groups`, do not admit it.
        NotAllowed => "not_allowed",
        /// The daemon is draining.
        Shutdown => "shutdown",
    }
}

impl Reason {
    /// Whether the daemon tells the endpoint why, in a final line: the reasons that are its own decision.
    pub const fn is_announced(self) -> bool {
        !matches!(self, Reason::Closed | Reason::Reset | Reason::Dead | Reason::LeaseExpired)
    }

    /// What it means to the client, for a person: "the daemon closed the connection: http (…)".
    pub const fn explanation(self) -> &'static str {
        match self {
            Reason::Closed => "it took this side for closed",
            Reason::Reset | Reason::Dead => "it took the connection for broken",
            Reason::LeaseExpired => "the lease was not renewed in time",
            Reason::SlowConsumer => "upcalls were not read fast enough; some are lost",
            Reason::MessageTooLarge => "a message is larger than its max_message; send smaller ones",
            Reason::MessageTimeout => "a message was begun and not ended in time",
            Reason::Http => "the first line looks like an HTTP request, and those are refused",
            Reason::Protocol => "the first byte was NUL, and this listener speaks text only",
            Reason::OutputOnly => "this listener takes no input; send to another one",
            Reason::Silent => "nothing was said in time where a HELLO with credentials was wanted",
            Reason::CredentialsRequired => "this listener wants a token, which text cannot carry",
            Reason::Superseded => "the session was resumed over another connection",
            Reason::ListenerRemoved => "its configuration no longer has this listener",
            Reason::Shutdown => "it is ending; try again when it is back",
        }
    }
}

impl Refusal {
    /// What it means to the client, for a person.
    pub const fn explanation(self) -> &'static str {
        match self {
            Refusal::MaxEndpoints => "as many clients as it allows are connected; try again later",
            Refusal::ListenerMaxEndpoints => "as many clients as this listener allows are connected; try again later",
            Refusal::MaxPerSource => "as many clients as it allows from this address or user are connected",
            Refusal::NotAllowed => "its rules do not admit this address or user",
            Refusal::Shutdown => Reason::Shutdown.explanation(),
        }
    }
}

/// The final line of a text stream that the daemon closes on purpose.
pub fn farewell(name: &str) -> String {
    format!("upcalld: {name}\n")
}
