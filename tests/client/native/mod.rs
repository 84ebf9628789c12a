//! The client library, and the commands of `upcall-client` that speak native, against the real daemon on every
//! transport.

mod bench;
mod exec;
mod library;
mod listen;
mod send;
