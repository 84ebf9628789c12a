//! The native protocol of upcall-protocol(7), with the real daemon on every transport.

mod basics;
mod bytes;
mod errors;
mod forged;
mod lossy;
mod protocol_detection;
mod python;
mod sessions;
mod slow;
mod swarm;
mod tokens;
mod waiting_room;

use crate::support::{Daemon, Place, Received};

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";

/// A listener for both protocols, with `more` lines in it.
fn auto(place: Place, name: &str, more: &str) -> String {
    place.auto_listener(name, more)
}

/// A daemon with one listener, `lab`, with `more` lines in it, and `rest` behind it.
fn lab(place: Place, more: &str, rest: &str) -> Daemon {
    Daemon::start(&(auto(place, "lab", more) + rest))
}

/// A daemon with a listener of each transport: `tcp`, `unix`, `udp`, `unix-datagram`.
fn everywhere(rest: &str) -> Daemon {
    let listeners = Place::EACH.into_iter().zip(NAMES).map(|(place, name)| auto(place, name, ""));
    Daemon::start(&(listeners.collect::<String>() + rest))
}

const NAMES: [&str; 4] = ["tcp", "unix", "udp", "unix-datagram"];

/// How a stream ends behind an ERROR that is fatal.
fn broken() -> [Received; 2] {
    [Received::Bye("protocol".into()), Received::End(String::new())]
}
