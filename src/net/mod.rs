//! The interface to the kernel's sockets: readiness, timers, listeners, streams, datagrams, signals.
//!
//! Moves bytes, and reports the outcome. Must not know messages, endpoints or the configuration: the daemon decides
//! what the bytes mean, and how to handle an error.

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
