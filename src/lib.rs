//! upcalld: whenever input arrives, every registered endpoint gets an upcall.
//!
//! This package contains the two programs, `upcalld` and `upcall-client`. The code that other programs can use is in
//! three crates of its workspace:
//!
//! - `upcall-wire`: addresses, and the conversion between bytes and messages;
//! - `upcall-engine`: the registry, the log and all delivery, without sockets or a clock;
//! - `upcall-client`: the client library.
//!
//! An input passes through the daemon like this:
//!
//! ```text
//! socket ─→ net ── bytes ──→ upcall-wire ── messages ──→ upcall-engine ──→ the log
//!
//!     and at the end of the turn, for every endpoint that the input is due to:
//!
//! the log, from the endpoint's cursor on ──→ upcall-engine ── bytes ──→ net ─→ socket
//! ```
//!
//! [`daemon`] is the loop that does this. The modules, from the bottom up:
//!
//! - [`exit`]: the exit statuses of both programs;
//! - [`net`]: epoll, sockets, timers and signals; `net::sys` is the only module with unsafe code;
//! - [`config`]: `upcalld.toml`, validated, with every mistake by line and column;
//! - [`cli`]: the command lines of both programs;
//! - [`daemon`]: runs the engine over the sockets: listeners, admission, timers, reload, drain, log lines, systemd;
//! - [`commands`]: the commands of `upcall-client`.
//!
//! `cli` uses `exit`; `daemon` uses `net`, `config`, `cli` and `exit`; `commands` uses `cli` and `exit`. There are no
//! other dependencies between them, which `tests/dependencies.rs` checks.

pub mod cli;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod exit;
pub mod net;
