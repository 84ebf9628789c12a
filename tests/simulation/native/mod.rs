//! Native clients: the client library's state machine against the engine, with all faults that can happen in between.

mod actions;
mod catch_up;
mod client;
mod connection;
mod datagrams;
mod delivery_record;
mod finish;
mod frames;
mod peer;
mod program;
mod reference;
mod state;
mod streams;
mod turn;

pub(crate) use state::NativeState;
