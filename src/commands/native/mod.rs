//! The commands of `upcall-client` that use the native protocol. Each is a loop around the client library:
//!
//! ```text
//! send: inputs ─ client library ─ receipts
//! listen, exec: subscriber ─ client library ─ upcalls ─ render, job
//! ping
//! ```
//!
//! They know no frames and no sockets, only the library's items.

pub(super) mod builder;
pub(super) mod exec;
mod inputs;
mod job;
pub(super) mod listen;
pub(super) mod ping;
mod render;
pub(super) mod send;
mod subscriber;
