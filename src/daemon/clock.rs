//! The clocks, read once a turn.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::engine::{Now, Time};

/// The kernel's clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock;

impl Clock {
    pub(super) fn now(self) -> Now {
        Now { time: read(ClockId::CLOCK_MONOTONIC), boot: read(ClockId::CLOCK_BOOTTIME), wall: SystemTime::now() }
    }
}

fn read(clock: ClockId) -> Time {
    let time = clock_gettime(clock).expect("every Linux since 2.6.39 has both clocks (clock_gettime(2))");
    Time(0) + Duration::from(time)
}
