//! The clocks. Each turn needs three of them, and reading all three would take a large part of a turn with a single
//! message. So a turn reads one clock, and adds its known distance to the others, as long as that has not changed.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use upcall_engine::{Now, Time};

/// The kernel's clocks.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Clock {
    /// By how many nanoseconds the wall clock is ahead of the monotonic clock (modulo 2⁶⁴: it may be behind).
    wall: Cell<u64>,
    /// By how much the clock that counts suspended time is ahead of it.
    boot: Cell<Duration>,
}

impl Clock {
    pub(in crate::daemon) fn now(&self) -> Now {
        if wall_ahead() != self.wall.get() {
            // The wall clock was set, or a tick came between the two readings, or the machine was suspended, which
            // moves the wall clock by exactly the time of the suspension. The next call detects a suspension after this
            // point. Time passes between the readings below, so `boot` may be too large; that never makes an alarm too
            // early.
            self.wall.set(wall_ahead());
            let before = read(ClockId::CLOCK_MONOTONIC);
            self.boot.set(read(ClockId::CLOCK_BOOTTIME).since(before));
        }
        let time = read(ClockId::CLOCK_MONOTONIC);
        let wall = SystemTime::UNIX_EPOCH + Duration::from_nanos(time.0.wrapping_add(self.wall.get()));
        Now { time, boot: time + self.boot.get(), wall }
    }

    /// The time now, at least `earlier`. It may be too early, by at most one tick of the kernel.
    pub(in crate::daemon) fn about(earlier: Time) -> Time {
        read(ClockId::CLOCK_MONOTONIC_COARSE).max(earlier)
    }
}

/// By how much the wall clock is ahead now. The coarse clocks return the time of the last tick, and take a fraction of
/// the time to read. Their difference equals that of the exact clocks to the nanosecond.
fn wall_ahead() -> u64 {
    read(ClockId::CLOCK_REALTIME_COARSE).0.wrapping_sub(read(ClockId::CLOCK_MONOTONIC_COARSE).0)
}

fn read(clock: ClockId) -> Time {
    let time = clock_gettime(clock).expect("every Linux since 2.6.39 has these clocks (clock_gettime(2))");
    Time(0) + Duration::from(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_gives_all_clocks() {
        let clock = Clock::default();
        for _ in 0..1_000 {
            let (boot, wall) = (read(ClockId::CLOCK_BOOTTIME), SystemTime::now());
            let now = clock.now();
            // On a busy machine, much time may pass between two readings.
            let limit = Duration::from_secs(1);
            assert!(now.boot >= boot && now.boot.since(boot) < limit, "{now:?}, {boot:?}");
            let apart = now.wall.duration_since(wall).unwrap_or_else(|early| early.duration());
            assert!(apart < limit, "{now:?}, {wall:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_is_read_again() {
        let clock = Clock::default();
        clock.now();
        let before = clock.boot.get();
        clock.wall.set(clock.wall.get().wrapping_add(1));
        clock.boot.set(before + Duration::from_secs(3_600));
        let now = clock.now();
        assert!(clock.boot.get() < before + Duration::from_secs(60), "{now:?}");
    }
}
