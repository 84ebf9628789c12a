//! Text clients: what they do, and what must hold for each of them at the end.

mod traffic;

pub(crate) use traffic::{Client, Packet, rendered};
