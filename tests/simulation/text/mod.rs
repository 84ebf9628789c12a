//! Text clients: what they do, and what must hold for each of them at the end.

mod check;
mod client;
mod traffic;

pub(crate) use client::{TextClient, TextDatagram};
