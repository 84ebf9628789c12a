//! poll(2) over a fixed set of descriptors, of which some may be absent.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A descriptor and the events to wait for. A hang-up or an error is reported whatever the events are.
pub(super) type Wait<'a> = Option<(BorrowedFd<'a>, PollFlags)>;

/// Waits until a descriptor is ready or the time `until` has come, and returns which descriptors are ready. A signal
/// ends the wait early, with none of them ready.
pub(super) fn try_wait<const N: usize>(waits: [Wait<'_>; N], until: Option<Instant>) -> Result<[bool; N], Errno> {
    let mut fds: Vec<PollFd<'_>> = waits.iter().flatten().map(|(fd, events)| PollFd::new(*fd, *events)).collect();
    match poll(&mut fds, timeout(until, Instant::now())) {
        Ok(1..) => {}
        Ok(_) | Err(Errno::EINTR) => return Ok([false; N]),
        Err(error) => return Err(error),
    }
    let mut polled = fds.iter();
    Ok(waits.map(|wait| wait.is_some() && polled.next().is_some_and(|fd| fd.any().unwrap_or(true))))
}

/// The same, for callers that would only wait again after an error.
pub(super) fn wait<const N: usize>(waits: [Wait<'_>; N], until: Option<Instant>) -> [bool; N] {
    try_wait(waits, until).unwrap_or([false; N])
}

/// Waits until the descriptor is readable, for `time` at most.
pub(super) fn wait_readable(fd: BorrowedFd<'_>, time: Duration) {
    let [_] = wait([Some((fd, PollFlags::POLLIN))], Instant::now().checked_add(time));
}

/// The time left, rounded up: a poll that returns too early would only have to be repeated.
fn timeout(until: Option<Instant>, now: Instant) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    let left = until.saturating_duration_since(now);
    let left = if left.is_zero() { left } else { left + Duration::from_millis(1) };
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
