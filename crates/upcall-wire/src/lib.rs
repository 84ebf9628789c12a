//! What upcalld and its clients say to each other: bytes ↔ messages. No sockets and no clock; incomplete is not an error.

#![forbid(unsafe_code)]

pub mod address;
pub mod escape;
pub mod farewell;
pub mod format;
pub mod frame;
mod named;
pub mod reason;
pub mod text;
pub mod topic;
