//! What upcalld and its clients exchange: addresses, text, frames of the native protocol, and the names of reasons.
//!
//! This crate translates between bytes and values. It knows no sockets and no clock, and incomplete input is not an
//! error: a decoder keeps what it has and continues with the next read.
//!
//! | module | owns |
//! |---|---|
//! | [`address`] | transports, and addresses such as `tcp://host:port` |
//! | [`text`] | the boundaries of messages in a text stream |
//! | [`mod@format`] | the template that renders an upcall as text |
//! | [`frame`] | the native protocol, upcall-protocol(7) |
//! | [`topic`] | topics and filters |
//! | [`reason`] | why an endpoint left, and why a connection was refused |
//! | [`farewell`] | the line in which the daemon sends a client such a reason |
//! | [`escape`] | escaping of untrusted bytes, so that they are safe to print |

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
