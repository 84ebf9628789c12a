//! `upcall-client` and the client library: the real program against a scripted daemon, and against the real one.
#![allow(clippy::unwrap_used, reason = "an unexpected error fails the test")]

mod bench;
mod bench_datagram;
mod datagram_listen;
mod datagram_send;
mod native;
mod python;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod text_listen;
mod text_send;
