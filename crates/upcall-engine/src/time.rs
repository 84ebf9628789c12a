//! Time, which every call passes in, so that a simulation can control it.

use std::ops::Add;
use std::time::{Duration, SystemTime};

/// A moment on a monotonic clock, in nanoseconds. The driver chooses the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// How long this is after `earlier`; zero if it is before.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A [`Time`] in whole seconds, in half the memory. Exact enough for what people are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Second(u32);

impl Second {
    /// How many seconds this is after `earlier`; zero if it is before.
    pub fn since(self, earlier: Second) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

impl From<Time> for Second {
    fn from(time: Time) -> Second {
        // Enough for 136 years.
        Second((time.0 / 1_000_000_000) as u32)
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(duration.as_nanos().try_into().unwrap_or(u64::MAX)))
    }
}

/// The present, on three clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For deadlines and durations: stops while the machine is suspended (CLOCK_MONOTONIC, clock_gettime(2)).
    pub time: Time,
    /// For leases: continues while the machine is suspended (CLOCK_BOOTTIME, clock_gettime(2)).
    pub boot: Time,
    /// For people: the wall clock, which may jump.
    pub wall: SystemTime,
}
