//! upcalld: whenever input arrives, every registered endpoint gets an upcall.
//!
//! ```text
//! bytes ─ net ─ upcall-wire: bytes → messages ─ upcall-engine: one log, a cursor per endpoint ─ net ─ bytes
//!                                                  │
//!       daemon: the loop that drives them, with the configuration, the log lines and systemd's notifications
//! ```
//!
//! Three crates hold what other programs can use as well: `upcall-wire` (what is said), `upcall-engine` (what it means),
//! `upcall-client` (the client library). This package holds both programs. Its modules depend on each other one way:
//! `exit ← cli`, `net` and `config` beside them, `daemon` and `commands` above. `tests/dependencies.rs` checks that.

pub mod cli;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod exit;
pub mod net;
