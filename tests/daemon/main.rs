//! The daemon from outside: the real program, on ports and paths of its own, through sockets and signals.
//!
//! A test whose name begins with an id, such as `l2_` or `f13_`, proves a row of the table in docs/testing.md.

#[path = "../support/mod.rs"]
mod support;

mod activation;
mod admission;
mod cli;
mod datagram_load;
mod datagram_peers;
mod datagrams;
mod drain;
mod forged;
mod limits;
mod load;
mod log_format;
mod native;
mod native_mistakes;
mod notify;
mod order;
mod practicum;
mod programs;
mod reload;
mod reload_in_place;
mod reload_settings;
mod signals;
mod slow_consumer;
mod slow_senders;
mod soak;
mod strangers;
mod streams;
mod unix_socket;
