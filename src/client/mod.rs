//! `upcall-client`: connects to a daemon, sends inputs, shows upcalls.
//!
//! ```text
//! source: what to send ─┐                      ┌─ splitter: bytes → upcalls, tails, the farewell ─ sink: where they go
//!                       └ exchange: one poll loop ┘
//! ```
//!
//! The commands (`interactive`, `send`, `listen`) each put a source and a sink around the same loop. They know no
//! protocol: that the daemon speaks text is known to `splitter`, `farewell` and `source` only.

mod backoff;
mod failure;
mod farewell;
mod lines;
mod splitter;
