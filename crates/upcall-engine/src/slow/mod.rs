//! Slow consumers: who is behind, for whom inputs wait, and for how much longer.
//!
//! An endpoint whose socket is full is *behind*. More than half of `max_behind` behind, inputs *wait* for it, until it has
//! caught up to a quarter or its patience is used up; from then on they go on without it, and the policy acts on it where
//! it is further behind than `max_behind`.
//!
//! The endpoint's own inputs wait for it whatever its patience, as long as it reads: a program that sends faster than it
//! reads is slowed down, not cut off. Once it has read nothing for a second it need not read before it is heard, lest
//! both sides wait for each other.
//!
//! Patience is a budget of the endpoint: it refills over a minute, so that no stranger can hold the service still. Waiting
//! costs nothing while the endpoint reads `max_behind` in the time of its patience, or faster: a healthy reader may be
//! slower than the fastest sender for as long as it likes.
//!
//! An endpoint that *begins* behind, because it resumes its session or asks for what was said before, has not fallen there:
//! nothing is held against it, and nobody waits for it either, lest a stranger hold the service still by asking again and
//! again. It *catches up*: it may be as far behind as the log goes back, and the policy acts on it only when the log cannot
//! hold any longer what it has yet to get. Once it is no more than a quarter of `max_behind` behind, it is one of the
//! others. Only where patience is for ever are inputs held for it, too: there, nobody is to lose anything.

mod policy;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::Patience;
use crate::id::EndpointId;
use crate::time::Time;

/// How long an empty budget takes to refill.
const REFILL: Duration = Duration::from_secs(60);

/// How an endpoint that is behind is dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lag {
    /// Nothing of the kind.
    None,
    /// It is behind, but not far.
    Behind,
    /// It began behind, and has not caught up yet: nothing waits for it, and it may be as far behind as the log goes back.
    CatchingUp,
    /// Inputs wait for it.
    HoldsInputs,
    /// Its patience is used up: nothing waits for it any more.
    Unprotected,
}

/// The state of an endpoint that is, or once was, behind.
#[derive(Debug)]
pub(crate) struct Slow {
    lag: Lag,
    /// Its position in the log, as it stands in the sets.
    position: u64,
    /// Patience used, as of `used_at`.
    used: Duration,
    used_at: Time,
    /// Since when inputs have waited for it, and where it was then.
    waiting: (Time, u64),
    /// How far it was behind then.
    distance: u64,
    /// When it last read something.
    pub(crate) progress: Time,
    /// It does not read, so its own inputs need not wait for it.
    pub(crate) idle: bool,
    /// When its patience is to be looked at next.
    pub(crate) deadline: Option<Time>,
    /// When it is to be looked at whether it still reads, while its own inputs wait for it.
    pub(crate) parked: Option<Time>,
}

impl Slow {
    pub(crate) fn new(now: Time) -> Slow {
        Slow {
            lag: Lag::None,
            position: 0,
            used: Duration::ZERO,
            used_at: now,
            waiting: (now, 0),
            distance: 0,
            progress: now,
            idle: false,
            deadline: None,
            parked: None,
        }
    }

    pub(crate) fn lag(&self) -> Lag {
        self.lag
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// How far it was behind when inputs began to wait for it.
    pub(crate) fn distance(&self) -> u64 {
        self.distance
    }

    /// What is left of the patience `limit` at `now`.
    fn left(&self, limit: Duration, now: Time) -> Duration {
        let refilled = now.since(self.used_at).mul_f64(limit.as_secs_f64() / REFILL.as_secs_f64());
        limit.saturating_sub(self.used.saturating_sub(refilled))
    }

    /// What the present waiting has cost: its time, less the time that a reader of `max_behind` per `limit` would have
    /// needed for what this one has read meanwhile.
    fn cost(&self, limit: Duration, max_behind: u64, now: Time) -> Duration {
        let (since, from) = self.waiting;
        let read = (self.position - from) as f64 / max_behind as f64;
        now.since(since).saturating_sub(limit.mul_f64(read.min(1e6)))
    }

    /// When inputs stop waiting if it reads nothing more; `None` when they have to stop now.
    pub(crate) fn patience(&mut self, limit: Duration, max_behind: u64, now: Time) -> Option<Time> {
        let left = self.left(limit, self.waiting.0).saturating_sub(self.cost(limit, max_behind, now));
        (!left.is_zero()).then(|| now + left)
    }
}

/// All endpoints that are behind, by how they are dealt with, the furthest behind first.
#[derive(Debug, Default)]
pub(crate) struct Laggards {
    behind: BTreeSet<(u64, EndpointId)>,
    catching_up: BTreeSet<(u64, EndpointId)>,
    waited: BTreeSet<(u64, EndpointId)>,
    unwaited: BTreeSet<(u64, EndpointId)>,
}

impl Laggards {
    fn set(&mut self, lag: Lag) -> Option<&mut BTreeSet<(u64, EndpointId)>> {
        match lag {
            Lag::None => None,
            Lag::Behind => Some(&mut self.behind),
            Lag::CatchingUp => Some(&mut self.catching_up),
            Lag::HoldsInputs => Some(&mut self.waited),
            Lag::Unprotected => Some(&mut self.unwaited),
        }
    }

    /// Moves an endpoint to `class`, at `position` in the log.
    pub(crate) fn place(&mut self, id: EndpointId, slow: &mut Slow, lag: Lag, position: u64) {
        if let Some(set) = self.set(slow.lag) {
            set.remove(&(slow.position, id));
        }
        (slow.lag, slow.position) = (lag, position);
        if let Some(set) = self.set(lag) {
            set.insert((position, id));
        }
    }

    /// Inputs wait for this endpoint from now on; `head` is where the log ends.
    pub(crate) fn wait(&mut self, id: EndpointId, slow: &mut Slow, head: u64, now: Time) {
        let position = slow.position;
        (slow.waiting, slow.distance) = ((now, position), head - position);
        self.place(id, slow, Lag::HoldsInputs, position);
    }

    /// Inputs no longer wait for this endpoint, which goes on in `class`; what the waiting cost is charged to it.
    pub(crate) fn stop_waiting(
        &mut self,
        id: EndpointId,
        slow: &mut Slow,
        lag: Lag,
        patience: Patience,
        max_behind: u64,
        now: Time,
    ) {
        if let Patience::Limited(limit) = patience {
            let left = slow.left(limit, slow.waiting.0).saturating_sub(slow.cost(limit, max_behind, now));
            (slow.used, slow.used_at) = (limit.saturating_sub(left), now);
        }
        slow.deadline = None;
        let position = slow.position;
        self.place(id, slow, lag, position);
    }

    /// The endpoint furthest behind among those that nothing has been decided on.
    pub(crate) fn furthest_behind(&self) -> Option<(u64, EndpointId)> {
        self.behind.first().copied()
    }

    /// The endpoint furthest behind among those that inputs do not wait for.
    pub(crate) fn unwaited(&self) -> impl Iterator<Item = (u64, EndpointId)> {
        self.unwaited.iter().copied()
    }

    /// The endpoint furthest behind of all.
    pub(crate) fn furthest(&self) -> Option<(u64, EndpointId)> {
        let all = [&self.behind, &self.catching_up, &self.waited, &self.unwaited];
        all.into_iter().filter_map(BTreeSet::first).min().copied()
    }

    /// How many inputs wait for.
    pub(crate) fn waited(&self) -> usize {
        self.waited.len()
    }

    /// The one that inputs wait for, if it is only one.
    pub(crate) fn only_waited(&self) -> Option<EndpointId> {
        if self.waited.len() == 1 { self.waited.first().map(|(_, id)| *id) } else { None }
    }

    /// All, for checks.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Lag, u64, EndpointId)> {
        let all = [
            (Lag::Behind, &self.behind),
            (Lag::CatchingUp, &self.catching_up),
            (Lag::HoldsInputs, &self.waited),
            (Lag::Unprotected, &self.unwaited),
        ];
        all.into_iter().flat_map(|(lag, set)| set.iter().map(move |(position, id)| (lag, *position, *id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Duration = Duration::from_secs(1);
    const MAX_BEHIND: u64 = 1 << 20;

    /// Waits for `wait`, in which `read` bytes are read; says whether inputs would have stopped waiting.
    fn wait(laggards: &mut Laggards, slow: &mut Slow, now: &mut Time, wait: Duration, read: u64) -> bool {
        let id = EndpointId::default();
        laggards.wait(id, slow, slow.position, *now);
        *now = *now + wait;
        let position = slow.position + read;
        laggards.place(id, slow, Lag::HoldsInputs, position);
        let used_up = slow.patience(LIMIT, MAX_BEHIND, *now).is_none();
        laggards.stop_waiting(id, slow, Lag::Behind, Patience::Limited(LIMIT), MAX_BEHIND, *now);
        used_up
    }

    fn fresh() -> (Laggards, Slow, Time) {
        (Laggards::default(), Slow::new(Time(0)), Time(0))
    }

    #[test]
    fn a_stalled_endpoint_is_waited_for_once() {
        let (mut laggards, mut slow, mut now) = fresh();
        assert!(!wait(&mut laggards, &mut slow, &mut now, LIMIT / 2, 0));
        assert!(!wait(&mut laggards, &mut slow, &mut now, LIMIT / 4, 0));
        assert!(wait(&mut laggards, &mut slow, &mut now, LIMIT / 2, 0));
        now = now + REFILL / 2;
        assert!(!wait(&mut laggards, &mut slow, &mut now, LIMIT / 3, 0), "half of it is back");
        assert!(wait(&mut laggards, &mut slow, &mut now, LIMIT / 3, 0));
    }

    #[test]
    fn a_healthy_reader_is_waited_for_without_end() {
        let (mut laggards, mut slow, mut now) = fresh();
        for _ in 0..10_000 {
            assert!(!wait(&mut laggards, &mut slow, &mut now, LIMIT / 4, MAX_BEHIND / 4));
        }
        assert_eq!(slow.used, Duration::ZERO);
    }

    #[test]
    fn nobody_is_waited_for_without_patience() {
        let mut slow = Slow::new(Time(0));
        assert_eq!(slow.patience(Duration::ZERO, MAX_BEHIND, Time(0)), None);
    }

    proptest! {
        /// However a stranger times its reading, inputs have waited for it no longer than its patience, what has refilled
        /// of it, and the time that a healthy reader needs for the same bytes.
        #[test]
        fn no_timing_holds_the_service_longer_than_the_budget(
            episodes in prop::collection::vec((0u64..2_000, 0u64..MAX_BEHIND, 0u64..20_000), 1..100)
        ) {
            let (mut laggards, mut slow, mut now) = fresh();
            let (mut waited, mut read_all) = (Duration::ZERO, 0);
            for (milliseconds, read, pause) in episodes {
                let Some(deadline) = ({ slow.waiting = (now, slow.position); slow.patience(LIMIT, MAX_BEHIND, now) }) else {
                    now = now + Duration::from_millis(pause);
                    continue;
                };
                // The engine stops waiting at the deadline, or later by what was read meanwhile.
                let longest = deadline.since(now) + LIMIT.mul_f64(read as f64 / MAX_BEHIND as f64);
                let time = Duration::from_millis(milliseconds).min(longest);
                wait(&mut laggards, &mut slow, &mut now, time, read);
                waited += time;
                read_all += read;
                now = now + Duration::from_millis(pause);
            }
            let refilled = LIMIT.mul_f64(now.since(Time(0)).as_secs_f64() / REFILL.as_secs_f64());
            let healthy = LIMIT.mul_f64(read_all as f64 / MAX_BEHIND as f64);
            prop_assert!(waited <= LIMIT + refilled + healthy + Duration::from_millis(1));
        }
    }
}
