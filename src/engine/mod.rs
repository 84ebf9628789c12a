//! Log, registry and delivery: pure and deterministic. `now` comes in; no sockets, no configuration types, no logging.

/// Which endpoints an input is due to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Audience {
    /// Every registered endpoint, the sender included.
    #[default]
    All,
    /// Everyone but the sender.
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
    /// It skips what it missed and is told so (native); text streams are disconnected.
    Skip,
}

/// How long inputs wait for an endpoint that has fallen behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// At most this long; the budget refills over a minute.
    Limited(std::time::Duration),
    /// For ever: nobody is disconnected for another's input.
    Forever,
}
