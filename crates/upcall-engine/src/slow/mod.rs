//! Slow consumers: which endpoints are behind, for which of them inputs are held, and what happens to the rest.
//!
//! An endpoint whose socket is full is *behind*. While it is more than half of `max_behind` behind, inputs are *held*
//! for it, until it has caught up to a quarter or its patience is used up. Once its patience is used up, inputs
//! continue without regard to it, and the policy acts on it as soon as it is further behind than `max_behind`.
//!
//! The endpoint's own inputs are *parked*, regardless of its patience, as long as it reads: a program that sends faster
//! than it reads is slowed down, not disconnected. Once it has read nothing for a second, its inputs are accepted
//! again, so that the two sides cannot deadlock.
//!
//! Patience is a budget of the endpoint that refills over a minute, so that no client can stop the service. Holding
//! costs nothing while the endpoint reads at least `max_behind` in the time of its patience: a healthy reader may stay
//! slower than the fastest sender without a time limit.
//!
//! An endpoint that *starts* behind, because it resumes its session or requests history, has not fallen behind: it is
//! not charged for that. Inputs are not held for it either, because otherwise a client could stop the service by
//! repeating the request. It *catches up*: it may be as far behind as the log goes back, and the policy acts on it only
//! when the log can no longer hold what it still needs. Once it is within a quarter of `max_behind`, it is treated like
//! every other endpoint. If the patience is `forever`, inputs are held for it too, because then no endpoint may lose
//! anything.

mod holding;
pub(crate) mod laggards;
mod policy;

use std::time::Duration;

use crate::time::Time;

/// How long an empty budget takes to refill.
const REFILL: Duration = Duration::from_secs(60);

/// How an endpoint that is behind is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lag {
    /// It is not behind.
    None,
    /// It is behind, but not far.
    Behind,
    /// It started behind, and has not caught up yet: no inputs are held for it, and it may be as far behind as the log
    /// goes back.
    CatchingUp,
    /// Inputs are held for it.
    HoldsInputs,
    /// Its patience is used up, or it never had any: no inputs are held for it, and the policy acts on it.
    Unprotected,
}

/// For how long inputs have been held for an endpoint.
#[derive(Debug, Clone, Copy)]
struct Hold {
    since: Time,
    /// Its position in the log when the hold began.
    position: u64,
    /// How far behind it was when the hold began, in bytes.
    distance: u64,
}

/// The state of an endpoint that is, or once was, behind.
#[derive(Debug)]
pub(crate) struct Slow {
    lag: Lag,
    /// Its position in the log, which is also its key in the sets of [`Laggards`](laggards::Laggards).
    position: u64,
    /// Patience used, as of `used_at`.
    used: Duration,
    used_at: Time,
    /// The last hold, which continues while it [holds inputs](Lag::HoldsInputs).
    hold: Hold,
    /// When it last read something.
    pub(crate) progress: Time,
    /// When its patience must be checked next.
    pub(crate) deadline: Option<Time>,
    pub(crate) parking: Parking,
}

/// Whether the inputs of an endpoint are parked because of its own lag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parking {
    No,
    /// They are. At this time, it is checked whether the endpoint still reads.
    Until(Time),
    /// They were, and the endpoint did not read. They are not parked again during this lag.
    Idle,
}

impl Slow {
    pub(crate) fn new(now: Time) -> Slow {
        Slow {
            lag: Lag::None,
            position: 0,
            used: Duration::ZERO,
            used_at: now,
            hold: Hold { since: now, position: 0, distance: 0 },
            progress: now,
            deadline: None,
            parking: Parking::No,
        }
    }

    pub(crate) fn lag(&self) -> Lag {
        self.lag
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// How far it was behind when inputs were last held for it, in bytes.
    pub(crate) fn distance(&self) -> u64 {
        self.hold.distance
    }

    /// What is left of the patience `limit` at `now`, the present hold not counted.
    fn left(&self, limit: Duration, now: Time) -> Duration {
        let refilled = now.since(self.used_at).mul_f64(limit.as_secs_f64() / REFILL.as_secs_f64());
        limit.saturating_sub(self.used.saturating_sub(refilled))
    }

    /// What the present hold has cost: its time, less the time that a reader of `max_behind` per `limit` needs for the
    /// bytes that this one has read in the meantime.
    fn cost(&self, limit: Duration, max_behind: u64, now: Time) -> Duration {
        let read = (self.position - self.hold.position) as f64 / max_behind as f64;
        now.since(self.hold.since).saturating_sub(limit.mul_f64(read.min(1e6)))
    }

    /// What is left of the patience `limit`, the present hold counted.
    fn left_of_hold(&self, limit: Duration, max_behind: u64, now: Time) -> Duration {
        self.left(limit, self.hold.since).saturating_sub(self.cost(limit, max_behind, now))
    }

    /// When the patience `limit` is used up if it reads nothing more; `None` if it is used up now.
    pub(crate) fn patience_ends(&self, limit: Duration, max_behind: u64, now: Time) -> Option<Time> {
        let left = self.left_of_hold(limit, max_behind, now);
        (!left.is_zero()).then(|| now + left)
    }
}

#[cfg(test)]
mod tests;
