//! Log, registry and delivery: pure and deterministic. `now` comes in; no sockets, no configuration types, no logging.

pub mod reason;
