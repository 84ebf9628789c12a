//! Bytes ↔ messages. No sockets, no clock; incomplete is not an error.

pub mod escape;
pub mod format;
pub mod reason;
pub mod text;
