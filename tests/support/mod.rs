//! What the integration tests share: the daemon under test, streams with deadlines, swarms of endpoints, other programs.
//!
//! Tests learn addresses from the daemon's log, wait on what it says or sends, and give up at [`DEADLINE`].

#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

pub(crate) mod client;
pub(crate) mod daemon;
pub(crate) mod datagram;
pub(crate) mod native;
pub(crate) mod native_inbox;
pub(crate) mod output;
pub(crate) mod program;
pub(crate) mod scripted;
pub(crate) mod stream;
pub(crate) mod swarm;
pub(crate) mod terminal;

use std::io::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) use daemon::{Daemon, Setup};
pub(crate) use datagram::Datagram;
pub(crate) use native::{Native, Way};
pub(crate) use native_inbox::Said;
pub(crate) use program::Program;
pub(crate) use stream::Stream;
pub(crate) use swarm::Swarm;

/// How long anything may take before the test gives up: generous, because the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Where a listener of the test listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp,
    Tcp6,
    UnixPath,
    UnixAbstract,
    Udp,
    Udp6,
    DatagramPath,
    DatagramAbstract,
}

impl Place {
    /// One of each transport.
    pub(crate) const EACH: [Place; 4] = [Place::Tcp, Place::UnixPath, Place::Udp, Place::DatagramAbstract];

    /// The streams.
    pub(crate) const ALL: [Place; 4] = [Place::Tcp, Place::Tcp6, Place::UnixPath, Place::UnixAbstract];

    /// A `[[listener]]` table, with `more` lines in it. `SCRATCH` stands for the daemon's scratch directory.
    pub(crate) fn listener(self, name: &str, more: &str) -> String {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let (path, abstract_name) =
            (format!("SCRATCH/{unique}.sock"), format!("@upcalld-test-{}-{unique}", std::process::id()));
        let (transport, address) = match self {
            Place::Tcp => ("tcp", "127.0.0.1:0".into()),
            Place::Tcp6 => ("tcp", "[::1]:0".into()),
            Place::UnixPath => ("unix", path),
            Place::UnixAbstract => ("unix", abstract_name),
            Place::Udp => ("udp", "127.0.0.1:0".into()),
            Place::Udp6 => ("udp", "[::1]:0".into()),
            Place::DatagramPath => ("unix-datagram", path),
            Place::DatagramAbstract => ("unix-datagram", abstract_name),
        };
        listener(name, transport, &address, more)
    }

    /// Whether this machine has it.
    pub(crate) fn is_available(self) -> bool {
        !matches!(self, Place::Tcp6 | Place::Udp6) || TcpListener::bind("[::1]:0").is_ok()
    }
}

/// A `[[listener]]` table, with `more` lines in it.
pub(crate) fn listener(name: &str, transport: &str, address: &str, more: &str) -> String {
    // On "auto", who says nothing for a second gets nothing for as long; most tests have listeners that only listen.
    let protocol = if more.contains("protocol") { "" } else { "protocol = \"text\"" };
    format!(
        "[[listener]]\nname = \"{name}\"\ntransport = \"{transport}\"\naddress = \"{address}\"\n{protocol}\n{more}\n"
    )
}

/// Runs one test body over one transport, unless this machine has none.
pub(crate) fn over(place: Place, name: &str, body: fn(Place)) {
    if place.is_available() {
        body(place);
    } else {
        skip(name, "::1 is not available");
    }
}

/// One test body, four tests: `body::tcp`, `body::tcp6`, `body::unix`, `body::abstract_unix`.
macro_rules! over_transports {
    ($($body:ident),+ $(,)?) => {$(
        mod $body {
            use crate::support::{Place, over};
            #[test]
            fn tcp() {
                over(Place::Tcp, stringify!($body), super::$body);
            }
            #[test]
            fn tcp6() {
                over(Place::Tcp6, stringify!($body), super::$body);
            }
            #[test]
            fn unix() {
                over(Place::UnixPath, stringify!($body), super::$body);
            }
            #[test]
            fn abstract_unix() {
                over(Place::UnixAbstract, stringify!($body), super::$body);
            }
        }
    )+};
}
pub(crate) use over_transports;

/// One test body, four tests: `body::udp`, `body::udp6`, `body::path`, `body::abstract_name`.
macro_rules! over_datagrams {
    ($($body:ident),+ $(,)?) => {$(
        mod $body {
            use crate::support::{Place, over};
            #[test]
            fn udp() {
                over(Place::Udp, stringify!($body), super::$body);
            }
            #[test]
            fn udp6() {
                over(Place::Udp6, stringify!($body), super::$body);
            }
            #[test]
            fn path() {
                over(Place::DatagramPath, stringify!($body), super::$body);
            }
            #[test]
            fn abstract_name() {
                over(Place::DatagramAbstract, stringify!($body), super::$body);
            }
        }
    )+};
}
pub(crate) use over_datagrams;

/// Says that a test, or a part of it, did not run, in a line that the full test script counts.
pub(crate) fn skip(test: &str, why: &str) {
    // Not eprintln!: the test harness would swallow it.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Skips for want of a program; where all of them should be installed (`CI=true`), that is a failure.
pub(crate) fn skip_without(test: &str, program: &str) {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{test} needs {program}, which is not installed");
    skip(test, &format!("{program} is not installed"));
}

/// Prints a measured figure: figures depend on the machine, so tests do not judge them.
pub(crate) fn figure(test: &str, text: &str) {
    let _ = writeln!(std::io::stderr(), "FIGURE {test}: {text}");
}

/// The value at the given fraction of the sorted samples.
pub(crate) fn percentile(samples: &mut [Duration], fraction: f64) -> Duration {
    samples.sort_unstable();
    let at = (samples.len() as f64 * fraction) as usize;
    samples[at.min(samples.len() - 1)]
}
