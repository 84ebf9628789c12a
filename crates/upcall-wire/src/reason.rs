//! Why an endpoint left, or was refused: the names that logs, counters, tests and both protocols share. Why upcalls are
//! missing is [`GapReason`](crate::frame::GapReason); why a datagram was dropped is `Dropped` in the gate of upcall-engine.

use crate::named_enum;

named_enum! {
    /// Why an endpoint left the registry.
    pub enum Reason {
        /// The client closed its side; everything due until then was delivered.
        Closed => "closed",
        /// The connection broke: reset, aborted, unreachable.
        Reset => "reset",
        /// The peer acknowledged nothing for too long, or keepalive got no answer.
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
        /// It broke the protocol, or uses one that its listener does not.
        Protocol => "protocol",
        /// It sent something to a listener whose role is `output`.
        OutputOnly => "output_only",
        /// It sent nothing although its listener requires a HELLO with credentials.
        Silent => "silent",
        /// It uses text where credentials are required, which text cannot carry.
        CredentialsRequired => "credentials_required",
        /// Its session was resumed over another connection.
        Superseded => "superseded",
        /// Its listener is no longer configured.
        ListenerRemoved => "listener_removed",
        /// The daemon is shutting down.
        Shutdown => "shutdown",
    }
}

named_enum! {
    /// Why a connection was refused. It never was an endpoint.
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
    /// Whether the daemon sends this reason to the endpoint before it closes the connection: it does if the decision
    /// was its own.
    pub const fn is_announced(self) -> bool {
        !matches!(self, Reason::Closed | Reason::Reset | Reason::Dead | Reason::LeaseExpired)
    }

    /// What the reason means to the client, in human-readable form: "the daemon closed the connection: http (…)".
    pub const fn explanation(self) -> &'static str {
        match self {
            Reason::Closed => "it considered this side closed",
            Reason::Reset | Reason::Dead => "it considered the connection broken",
            Reason::LeaseExpired => "the lease was not renewed in time",
            Reason::SlowConsumer => "upcalls were not read fast enough; some are lost",
            Reason::MessageTooLarge => "a message is larger than its max_message; send smaller ones",
            Reason::MessageTimeout => "a message was not completed in time",
            Reason::Http => "the first line looks like an HTTP request, and those are refused",
            Reason::Protocol => "this listener speaks another protocol, or what was sent breaks it",
            Reason::OutputOnly => "this listener takes no input; send to another one",
            Reason::Silent => "nothing was sent in time, and this listener requires a HELLO",
            Reason::CredentialsRequired => "this listener requires a token, which text cannot carry",
            Reason::Superseded => "the session was resumed over another connection",
            Reason::ListenerRemoved => "its configuration no longer has this listener",
            Reason::Shutdown => "it was stopped, or is being restarted",
        }
    }
}

impl Refusal {
    /// What the refusal means to the client, in human-readable form.
    pub const fn explanation(self) -> &'static str {
        match self {
            Refusal::MaxEndpoints => "it already has as many clients as it allows; try again later",
            Refusal::ListenerMaxEndpoints => "this listener already has as many clients as it allows; try again later",
            Refusal::MaxPerSource => "it already has as many clients from this address or user as it allows",
            Refusal::NotAllowed => "its rules do not admit this address or user",
            Refusal::Shutdown => Reason::Shutdown.explanation(),
        }
    }
}
