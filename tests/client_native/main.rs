//! The client library, and the commands of `upcall-client` that speak native: the real programs against the real daemon,
//! on every transport.
#![allow(clippy::unwrap_used, reason = "what cannot go on in a test has failed")]

mod bench;
#[path = "../client_support/mod.rs"]
mod client_support;
mod exec;
mod library;
mod listen;
mod relay;
mod send;
mod upcalld;
