//! Bytes ↔ messages. No sockets, no clock; incomplete is not an error.

pub mod escape;
pub mod format;
pub mod frame;
pub mod reason;
pub mod text;
pub mod topic;
