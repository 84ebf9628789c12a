//! The commands of `upcall-client` that use the text protocol. Each puts a source and a sink around one loop:
//!
//! ```text
//! source: inputs to send ─ exchange: one poll loop ─ sink: output of upcalls
//!                                   │
//!                             link: to the daemon
//!        link/stream ─────────┘           └─────────── link/datagram
//!        splitter: bytes → upcalls                     membership: join, prove, renew, leave
//!                                                      pacer: how fast to send
//! ```
//!
//! Only `source`, `datagram_commands` and `link` know the text protocol.

mod connect;
mod datagram_commands;
mod exchange;
pub(super) mod interactive;
mod lines;
pub(super) mod link;
pub(super) mod listen;
mod render;
pub(super) mod send;
mod sink;
mod source;
