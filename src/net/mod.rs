//! Sockets, as far as the kernel is concerned: readiness, timers, listeners, streams, datagrams, signals.
//!
//! Moves bytes, and reports how that went. It must not know messages, endpoints or the configuration: the daemon
//! decides what the bytes mean, and what to do about an error.

pub mod alarm;
pub mod binding;
pub mod datagram;
pub mod inherited;
pub mod listener;
pub mod poller;
pub mod signals;
pub mod stream;
mod sys;
mod unix_path;

pub use sys::handover::take_variables;
pub use sys::{give_memory_back, peer_groups};
