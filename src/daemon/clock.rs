//! The clocks, read once a turn.

use std::time::{Instant, SystemTime};

use crate::engine::{Now, Time};

/// Counts from when it was made, on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock { origin: Instant::now() }
    }

    pub(super) fn now(self) -> Now {
        let nanoseconds = self.origin.elapsed().as_nanos();
        Now { time: Time(nanoseconds.try_into().unwrap_or(u64::MAX)), wall: SystemTime::now() }
    }
}
