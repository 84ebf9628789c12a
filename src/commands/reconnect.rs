//! Reconnecting: the time between two attempts, and the report of a lost connection. It is printed once, and not again
//! for each attempt that fails for the same reason.

use std::fmt;
use std::time::Duration;

use upcall_client::backoff::Backoff;

use super::terminal::output::notice;

/// The longest first delay. The actual ones are random, up to the longest (full jitter).
const BACKOFF_BASE: Duration = Duration::from_millis(500);

/// The longest delay.
const BACKOFF_CAP: Duration = Duration::from_secs(30);

/// The delays between attempts.
pub(super) fn backoff() -> Backoff {
    Backoff::new(BACKOFF_BASE, BACKOFF_CAP)
}

/// Reports an outage on stderr.
#[derive(Debug, Default)]
pub(super) struct OutageReport {
    /// The last message, while there is no connection.
    reported: Option<String>,
}

impl OutageReport {
    /// A connection has ended, or an attempt has failed, and another attempt follows.
    pub(super) fn lost(&mut self, error: &impl fmt::Display) {
        let error = error.to_string();
        if self.reported.as_ref() != Some(&error) {
            notice(&format!("{error}; retrying, at most {} s between attempts", BACKOFF_CAP.as_secs()));
            self.reported = Some(error);
        }
    }

    /// There is a connection again.
    pub(super) fn restored(&mut self) {
        self.reported = None;
    }
}
