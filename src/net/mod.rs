//! Sockets: epoll, listeners, streams, datagrams, signals. Moves bytes for tokens; knows no message.

pub mod alarm;
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
