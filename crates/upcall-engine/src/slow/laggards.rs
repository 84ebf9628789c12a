//! All endpoints that are behind, and for how long inputs have been held because of them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Hold, Lag, Slow};
use crate::id::EndpointId;
use crate::settings::Patience;
use crate::time::Time;

/// The endpoints that are behind, by how they are treated. In each set, the endpoint furthest behind comes first.
#[derive(Debug, Default)]
pub(crate) struct Laggards {
    behind: BTreeSet<(u64, EndpointId)>,
    catching_up: BTreeSet<(u64, EndpointId)>,
    holding: BTreeSet<(u64, EndpointId)>,
    unprotected: BTreeSet<(u64, EndpointId)>,
    /// Since when inputs have been held.
    held_since: Option<Time>,
    /// How long they had been held in total before.
    held: Duration,
}

impl Laggards {
    fn set(&mut self, lag: Lag) -> Option<&mut BTreeSet<(u64, EndpointId)>> {
        match lag {
            Lag::None => None,
            Lag::Behind => Some(&mut self.behind),
            Lag::CatchingUp => Some(&mut self.catching_up),
            Lag::HoldsInputs => Some(&mut self.holding),
            Lag::Unprotected => Some(&mut self.unprotected),
        }
    }

    /// Moves an endpoint to the set of `lag`, at `position` in the log.
    pub(crate) fn place(&mut self, id: EndpointId, slow: &mut Slow, lag: Lag, position: u64) {
        if let Some(set) = self.set(slow.lag) {
            set.remove(&(slow.position, id));
        }
        (slow.lag, slow.position) = (lag, position);
        if let Some(set) = self.set(lag) {
            set.insert((position, id));
        }
    }

    /// Inputs are held for an endpoint from now on. The log ends at position `head`.
    pub(crate) fn hold_for(&mut self, id: EndpointId, slow: &mut Slow, head: u64, now: Time) {
        let position = slow.position;
        slow.hold = Hold { since: now, position, distance: head - position };
        self.place(id, slow, Lag::HoldsInputs, position);
    }

    /// Inputs are no longer held for an endpoint, which is treated as `lag` now. It is charged for the hold.
    pub(crate) fn release(
        &mut self,
        id: EndpointId,
        slow: &mut Slow,
        lag: Lag,
        patience: Patience,
        max_behind: u64,
        now: Time,
    ) {
        if let Patience::Limited(limit) = patience {
            let left = slow.left_of_hold(limit, max_behind, now);
            (slow.used, slow.used_at) = (limit.saturating_sub(left), now);
        }
        slow.deadline = None;
        let position = slow.position;
        self.place(id, slow, lag, position);
    }

    /// The endpoint furthest behind among those that are merely behind, and its position.
    pub(crate) fn furthest_behind(&self) -> Option<(u64, EndpointId)> {
        self.behind.first().copied()
    }

    /// The unprotected endpoints with their positions. The endpoint furthest behind comes first.
    pub(crate) fn unprotected(&self) -> impl Iterator<Item = (u64, EndpointId)> {
        self.unprotected.iter().copied()
    }

    /// The endpoint furthest behind of all, and its position.
    pub(crate) fn furthest(&self) -> Option<(u64, EndpointId)> {
        let all = [&self.behind, &self.catching_up, &self.holding, &self.unprotected];
        all.into_iter().filter_map(BTreeSet::first).min().copied()
    }

    /// For how many endpoints inputs are held.
    pub(crate) fn holding(&self) -> usize {
        self.holding.len()
    }

    /// The endpoint that inputs are held for, if there is exactly one.
    pub(crate) fn only_holding(&self) -> Option<EndpointId> {
        if self.holding.len() == 1 { self.holding.first().map(|(_, id)| *id) } else { None }
    }

    /// Starts to hold inputs, or holds them for one more endpoint. Returns whether they were not held before.
    pub(crate) fn begin_hold(&mut self, now: Time) -> bool {
        let begins = self.held_since.is_none();
        if begins {
            self.held_since = Some(now);
        }
        begins
    }

    /// Ends the hold if inputs are not held for any endpoint. Returns whether they were held until now.
    pub(crate) fn end_hold(&mut self, now: Time) -> bool {
        if self.holding() == 0
            && let Some(since) = self.held_since.take()
        {
            self.held += now.since(since);
            return true;
        }
        false
    }

    /// Whether inputs are held.
    pub(crate) fn is_held(&self) -> bool {
        self.held_since.is_some()
    }

    /// How long inputs had been held in total before the present hold.
    pub(crate) fn held_before(&self) -> Duration {
        self.held
    }

    /// How long inputs have been held in total, up to `now`.
    pub(crate) fn held_until(&self, now: Time) -> Duration {
        self.held + self.held_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// All endpoints that are behind, with their treatment and their positions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Lag, u64, EndpointId)> {
        let all = [
            (Lag::Behind, &self.behind),
            (Lag::CatchingUp, &self.catching_up),
            (Lag::HoldsInputs, &self.holding),
            (Lag::Unprotected, &self.unprotected),
        ];
        all.into_iter().flat_map(|(lag, set)| set.iter().map(move |(position, id)| (lag, *position, *id)))
    }
}
