//! upcalld: whenever input arrives, every registered endpoint gets an upcall.
//!
//! ```text
//! bytes ─ net ─ wire: bytes → messages ─ engine: one log, a cursor an endpoint ─ net ─ bytes
//!                                            │
//!       daemon: the loop that sees them all, with what config says, where the log lines go, what systemd is told
//! ```
//!
//! Imports point one way: `address ← wire ← engine ← config`, `net` beside the engine, `daemon` above all of them;
//! `client` knows `address` and `wire` only. `tests/dependencies.rs` holds the code to that.

pub mod address;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod exit;
pub mod net;
pub mod wire;
