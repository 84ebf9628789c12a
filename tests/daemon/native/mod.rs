//! The native protocol as upcall-protocol(7) has it, spoken to the real daemon on every transport.

mod basics;
mod bytes;
mod door;
mod errors;
mod forged;
mod lossy;
mod opening;
mod python;
mod relay;
mod sessions;
mod slow;
mod swarm;
mod tokens;

use crate::support::{Daemon, Place, Said};

/// One test body, four tests: `body::tcp`, `body::unix`, `body::udp`, `body::unix_datagram`.
macro_rules! over_each {
    ($($body:ident),+ $(,)?) => {$(
        mod $body {
            use crate::support::Place;
            #[test]
            fn tcp() {
                super::$body(Place::Tcp);
            }
            #[test]
            fn unix() {
                super::$body(Place::UnixPath);
            }
            #[test]
            fn udp() {
                super::$body(Place::Udp);
            }
            #[test]
            fn unix_datagram() {
                super::$body(Place::DatagramAbstract);
            }
        }
    )+};
}
use over_each;

const DATA: &str = "[upcall]\nformat = \"{data}\"\n";

/// A listener that takes both protocols, with `more` lines in it.
fn auto(place: Place, name: &str, more: &str) -> String {
    let protocol = if more.contains("protocol") { "" } else { "protocol = \"auto\"\n" };
    place.listener(name, &format!("{protocol}{more}"))
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
fn broken() -> [Said; 2] {
    [Said::Bye("protocol".into()), Said::End(String::new())]
}

fn is_datagram(place: Place) -> bool {
    matches!(place, Place::Udp | Place::DatagramAbstract)
}
