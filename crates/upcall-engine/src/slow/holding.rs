//! Holding inputs for slow endpoints: when it begins, how long it lasts, and when an endpoint's own inputs are parked.

use std::time::Duration;

use super::{Lag, Parking, Slow};
use crate::deadlines::Deadline;
use crate::id::EndpointId;
use crate::{Engine, Event, Now, Patience, Time};

/// How long an endpoint may read nothing before its own inputs are no longer parked.
const IDLE: Duration = Duration::from_secs(1);

impl Engine {
    /// An endpoint starts where it left off, or at the sequence that it requested.
    pub(crate) fn catch_up(&mut self, now: Now, id: EndpointId) {
        self.record_position(now, id);
        if self.settings.patience != Patience::Forever && !self.has_nearly_caught_up(id) {
            self.set_lag(now.time, id, Lag::CatchingUp);
        }
    }

    /// Records the position of an endpoint whose socket is full, which may fall behind or stop being behind by this.
    pub(crate) fn record_position(&mut self, now: Now, id: EndpointId) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let Some(floor) = endpoint.oldest_needed().filter(|floor| floor.sequence < endpoint.until) else {
            // It needs only its outbox, and nothing of the log.
            return self.clear_lag(now, id);
        };
        let position = self.log.position(floor);
        let may_hold = endpoint.may_hold_inputs();
        let slow = endpoint.slow.get_or_insert_with(|| Box::new(Slow::new(now.time)));
        if slow.lag() == Lag::None || position > slow.position() {
            slow.progress = now.time;
        }
        let lag = match slow.lag() {
            Lag::None if may_hold => Lag::Behind,
            Lag::None => Lag::Unprotected,
            lag => lag,
        };
        self.laggards.place(id, slow, lag, position);
        if may_hold && lag != Lag::Behind && self.has_nearly_caught_up(id) {
            self.set_lag(now.time, id, Lag::Behind);
        }
    }

    /// Whether an endpoint that is behind is close enough to the head to be treated like every other endpoint.
    fn has_nearly_caught_up(&self, id: EndpointId) -> bool {
        let slow = self.registry.get(id).and_then(|endpoint| endpoint.slow.as_ref());
        slow.is_none_or(|slow| self.log.head() - slow.position() <= self.settings.max_behind / 4)
            && !self.is_in_danger(id)
    }

    /// An endpoint has caught up, or is removed.
    pub(crate) fn clear_lag(&mut self, now: Now, id: EndpointId) {
        self.set_lag(now.time, id, Lag::None);
    }

    /// Holds inputs for an endpoint that is more than half of `max_behind` behind, if it has patience left.
    pub(super) fn hold_inputs_for(&mut self, now: Time, id: EndpointId) {
        let Some(slow) = self.registry.get_mut(id).and_then(|endpoint| endpoint.slow.as_mut()) else { return };
        self.laggards.hold_for(id, slow, self.log.head(), now);
        if let Patience::Limited(limit) = self.settings.patience {
            match slow.patience_ends(limit, self.settings.max_behind, now) {
                Some(deadline) => {
                    slow.deadline = Some(deadline);
                    self.deadlines.set(deadline, id, Deadline::Patience);
                }
                None => return self.set_lag(now, id, Lag::Unprotected),
            }
        }
        self.counters.waits += u64::from(self.laggards.begin_hold(now));
        self.report(id, Event::InputsHeld);
    }

    /// The patience of an endpoint is used up by now, unless it has read something in the meantime.
    pub(crate) fn check_patience(&mut self, now: Time, id: EndpointId) {
        let Some(slow) = self.registry.get_mut(id).and_then(|endpoint| endpoint.slow.as_mut()) else { return };
        slow.deadline = None;
        let Patience::Limited(limit) = self.settings.patience else { return };
        if let Some(deadline) = slow.patience_ends(limit, self.settings.max_behind, now) {
            slow.deadline = Some(deadline);
            self.deadlines.set(deadline, id, Deadline::Patience);
        } else {
            self.set_lag(now, id, Lag::Unprotected);
            self.report(id, Event::PatienceExhausted);
        }
    }

    /// Reports an event about an endpoint, by its number.
    fn report(&mut self, id: EndpointId, event: fn(u64) -> Event) {
        if let Some(endpoint) = self.registry.get(id) {
            self.events.push_back(event(endpoint.number));
        }
    }

    /// Changes how an endpoint is treated, and ends everything that belonged to the earlier treatment.
    pub(super) fn set_lag(&mut self, now: Time, id: EndpointId, lag: Lag) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let unparked = (!endpoint.transport.is_datagram()).then_some(Event::Unparked(endpoint.tag));
        let Some(slow) = endpoint.slow.as_mut() else { return };
        if slow.lag() == lag {
            return;
        }
        if let Some(deadline) = slow.deadline {
            self.deadlines.cancel(deadline, id, Deadline::Patience);
        }
        if matches!(lag, Lag::None | Lag::Behind)
            && let Parking::Until(deadline) = std::mem::replace(&mut slow.parking, Parking::No)
        {
            self.deadlines.cancel(deadline, id, Deadline::Parked);
            self.events.extend(unparked);
        }
        if slow.lag() == Lag::HoldsInputs {
            let (patience, max_behind) = (self.settings.patience, self.settings.max_behind);
            self.laggards.release(id, slow, lag, patience, max_behind, now);
            if self.laggards.end_hold(now) {
                self.events.push_back(Event::InputsReleased);
            }
        } else {
            let position = slow.position();
            self.laggards.place(id, slow, lag, position);
        }
    }

    /// The settings have changed: decides again for which endpoints inputs are held, and for how long.
    pub(crate) fn reconsider_lags(&mut self, now: Now) {
        let lagging: Vec<(Lag, EndpointId)> = self.laggards.iter().map(|(lag, _, id)| (lag, id)).collect();
        for (lag, id) in lagging {
            let may_hold = self.registry.get(id).is_some_and(|endpoint| endpoint.may_hold_inputs());
            let reset = match lag {
                Lag::HoldsInputs | Lag::Unprotected => may_hold,
                Lag::CatchingUp => self.settings.patience == Patience::Forever || self.has_nearly_caught_up(id),
                Lag::None | Lag::Behind => false,
            };
            if reset {
                self.set_lag(now.time, id, Lag::Behind);
            }
        }
    }

    /// Parks the inputs of an endpoint if its own lag requires that. [`Event::Unparked`] reports when they may be
    /// handled.
    pub(crate) fn park(&mut self, now: Now, id: EndpointId) -> bool {
        let Some(endpoint) = self.registry.get_mut(id) else { return false };
        let may_hold = endpoint.may_hold_inputs();
        let Some(slow) = endpoint.slow.as_mut().filter(|_| may_hold) else { return false };
        if !matches!(slow.lag(), Lag::CatchingUp | Lag::HoldsInputs | Lag::Unprotected) {
            return false;
        }
        match slow.parking {
            Parking::Idle => return false,
            Parking::Until(_) => {}
            Parking::No => {
                let deadline = slow.progress.max(now.time) + IDLE;
                slow.parking = Parking::Until(deadline);
                self.deadlines.set(deadline, id, Deadline::Parked);
            }
        }
        true
    }

    /// Whether the inputs of an endpoint are parked. [`Event::Unparked`] reports when they may be handled.
    pub fn is_parked(&self, id: EndpointId) -> bool {
        let Some(endpoint) = self.registry.get(id) else { return false };
        let by_lag = endpoint.slow.as_ref().is_some_and(|slow| matches!(slow.parking, Parking::Until(_)));
        by_lag || endpoint.native().is_some_and(|native| native.answers_unread)
    }

    /// Checks whether an endpoint whose inputs are parked still reads.
    pub(crate) fn check_parked(&mut self, now: Time, id: EndpointId) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let unparked = (!endpoint.transport.is_datagram()).then_some(Event::Unparked(endpoint.tag));
        let Some(slow) = endpoint.slow.as_mut() else { return };
        let deadline = slow.progress + IDLE;
        if deadline > now {
            slow.parking = Parking::Until(deadline);
            self.deadlines.set(deadline, id, Deadline::Parked);
        } else {
            slow.parking = Parking::Idle;
            self.events.extend(unparked);
        }
    }
}
