//! What is said of a connection that is lost, or cannot be had: that it is, once, and not at every attempt to get it back.

use std::fmt;
use std::time::Duration;

use super::failure::say;

/// The longest that a client waits between two attempts.
pub(super) const BACKOFF_CAP: Duration = Duration::from_secs(30);

/// What was said last, while there is no connection.
#[derive(Debug, Default)]
pub(super) struct Losses {
    told: Option<String>,
}

impl Losses {
    /// An attempt has failed, or a connection has ended, and another attempt is to come.
    pub(super) fn lost(&mut self, error: &impl fmt::Display) {
        let error = error.to_string();
        if self.told.as_ref() != Some(&error) {
            let longest = humantime::format_duration(BACKOFF_CAP);
            say(&format!("{error} (trying again, every {longest} at the least)"));
            self.told = Some(error);
        }
    }

    /// There is a connection again.
    pub(super) fn over(&mut self) {
        self.told = None;
    }
}
