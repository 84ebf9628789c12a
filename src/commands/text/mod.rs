//! The commands of `upcall-client` that use the text protocol.

mod datagram_commands;
pub(super) mod exchange;
pub(super) mod interactive;
mod lines;
pub(super) mod link;
pub(super) mod listen;
pub(super) mod send;
mod source;
