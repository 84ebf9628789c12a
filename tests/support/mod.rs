//! The harness of all integration tests: the daemon under test, clients of every kind, scripted daemons, other
//! programs.
//!
//! A test learns addresses from the daemon's log, waits for conditions (a log event, a byte, an exit) instead of
//! sleeping, and gives up at [`DEADLINE`]. docs/testing.md has a tour.
#![allow(dead_code, unused_imports, unused_macros, reason = "each test binary uses a part of the harness")]
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

pub(crate) mod client;
pub(crate) mod counters;
pub(crate) mod daemon;
pub(crate) mod datagram;
pub(crate) mod inbox;
pub(crate) mod log;
pub(crate) mod native;
pub(crate) mod output;
pub(crate) mod over;
pub(crate) mod place;
pub(crate) mod program;
pub(crate) mod relay;
pub(crate) mod report;
pub(crate) mod retry;
pub(crate) mod scripted;
pub(crate) mod setup;
pub(crate) mod stream;
pub(crate) mod swarm;
pub(crate) mod terminal;

use std::time::Duration;

pub(crate) use daemon::Daemon;
pub(crate) use datagram::Datagram;
pub(crate) use inbox::Received;
pub(crate) use log::Event;
pub(crate) use native::{Link, Native};
pub(crate) use over::over;
pub(crate) use place::{Place, listener};
pub(crate) use program::Program;
pub(crate) use report::{figure, percentile, skip, skip_without};
pub(crate) use retry::{retry, until, within};
pub(crate) use setup::Setup;
pub(crate) use stream::Stream;
pub(crate) use swarm::Swarm;

/// How long anything may take before the test gives up: generous, because the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
