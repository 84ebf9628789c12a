//! The clocks, read once a turn: where the kernel reads the processor's counter for each, they are a good part of a turn
//! that has one message to carry.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::engine::{Now, Time};

/// The kernel's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    /// Somebody may have a lease.
    leases: bool,
}

impl Clock {
    /// From now on there may be leases, and the time that counts suspend is told; until then it is that which does not.
    pub(super) fn count_suspend(&mut self) {
        self.leases = true;
    }

    pub(super) fn now(self) -> Now {
        let time = read(ClockId::CLOCK_MONOTONIC);
        let boot = if self.leases { read(ClockId::CLOCK_BOOTTIME) } else { time };
        Now { time, boot, wall: SystemTime::now() }
    }

    /// The time a while after `earlier`: at most a tick of the kernel's too early, or that while, and never before
    /// `earlier` (CLOCK_MONOTONIC_COARSE, clock_gettime(2)).
    pub(super) fn about(self, earlier: Time) -> Time {
        read(ClockId::CLOCK_MONOTONIC_COARSE).max(earlier)
    }
}

fn read(clock: ClockId) -> Time {
    let time = clock_gettime(clock).expect("every Linux since 2.6.39 has these clocks (clock_gettime(2))");
    Time(0) + Duration::from(time)
}
