//! Slow consumers and deadlines: when inputs wait, for whom, until when, and what is done about it. The mechanism and its
//! terms are in [`super::slow`].

use std::time::Duration;

use crate::id::EndpointId;
use crate::log::reading::Cursor;
use crate::log::{Oldest, Rendition};
use crate::registry::endpoint::Delivery;
use crate::slow::{Lag, Slow};
use crate::{Deadline, Engine, Event, Now, Patience, Time};
use upcall_wire::reason::Reason;

/// How long an endpoint may read nothing before its own inputs no longer wait for it.
const IDLE: Duration = Duration::from_secs(1);

impl Engine {
    /// Ends a turn, after everything ready was written as far as it went: decides for whom inputs wait, and acts on
    /// those who are too far behind. May make endpoints ready again.
    pub fn end_turn(&mut self, now: Now) {
        self.appended = 0;
        if !self.has_ready() && self.undecided.front().is_none() && self.laggards.furthest().is_none() {
            // Everybody has everything, and nobody can ask for a text again.
            self.log.forget_unread_texts();
        }
        self.decide_endangered(now);
        while let Some((position, id)) = self.laggards.furthest_behind()
            && (self.log.head() - position > self.settings.max_behind / 2 || self.is_in_danger(id))
        {
            self.hold_inputs_for(now.time, id);
        }
        // One that inputs wait for is not cut off for what had come before they did.
        let (head, max_behind) = (self.log.head(), self.settings.max_behind);
        let too_far = self.laggards.unwaited().take_while(|(position, _)| head - position > max_behind);
        for id in too_far.map(|(_, id)| id).collect::<Vec<_>>() {
            self.apply_policy(now, id);
        }
        if let Some(id) = self.laggards.only_waited()
            && let Some(slow) = self.registry.get(id).and_then(|endpoint| endpoint.slow.as_ref())
            && slow.idle
            && self.log.head() - slow.position() > self.settings.max_behind.max(slow.distance())
        {
            self.apply_policy(now, id);
        }
    }

    /// An endpoint begins where it left off, or asked for.
    pub(crate) fn catch_up(&mut self, now: Now, id: EndpointId) {
        self.record_position(now, id);
        if self.settings.patience != Patience::Forever && !self.has_nearly_caught_up(id) {
            self.set_lag(now.time, id, Lag::CatchingUp);
        }
    }

    /// The first sequence that an endpoint has yet to get, and how far it is behind with it: a distance in the log, in bytes.
    /// For tests.
    #[doc(hidden)]
    pub fn missing(&self, id: EndpointId) -> Option<(u64, u64)> {
        let endpoint = self.registry.get(id)?;
        let next = Cursor::at(self.log.next());
        let floor = match endpoint.delivery {
            Delivery::CaughtUp => next,
            _ => endpoint.oldest_needed().unwrap_or(next),
        };
        Some((floor.sequence, self.log.head() - self.log.position(floor)))
    }

    /// The first sequence that the log still holds for native endpoints. For tests.
    #[doc(hidden)]
    pub fn oldest_sequence(&self) -> u64 {
        self.log.oldest().of(Rendition::Frames)
    }

    /// Whether an endpoint that is behind has caught up far enough to be no trouble to anybody.
    fn has_nearly_caught_up(&self, id: EndpointId) -> bool {
        let slow = self.registry.get(id).and_then(|endpoint| endpoint.slow.as_ref());
        slow.is_none_or(|slow| self.log.head() - slow.position() <= self.settings.max_behind / 4)
            && !self.is_in_danger(id)
    }

    /// Whether the inputs of an endpoint have to wait for itself. If so, [`Event::Unparked`] will tell when they need not.
    pub(crate) fn park(&mut self, now: Now, id: EndpointId) -> bool {
        let Some(endpoint) = self.registry.get_mut(id) else { return false };
        let patient = endpoint.is_patient();
        let Some(slow) = endpoint.slow.as_mut().filter(|_| patient) else { return false };
        if slow.idle || !matches!(slow.lag(), Lag::CatchingUp | Lag::HoldsInputs | Lag::Unprotected) {
            return false;
        }
        if slow.parked.is_none() {
            let deadline = slow.progress.max(now.time) + IDLE;
            slow.parked = Some(deadline);
            self.deadlines.insert((deadline, id, Deadline::Parked));
        }
        true
    }

    /// Whether the inputs of an endpoint are waiting for itself: [`Event::Unparked`] will tell when they need not.
    pub fn is_parked(&self, id: EndpointId) -> bool {
        let Some(endpoint) = self.registry.get(id) else { return false };
        let waits = endpoint.slow.as_ref().is_some_and(|slow| slow.parked.is_some());
        waits || endpoint.native().is_some_and(|native| native.answers_unread)
    }

    /// It is time to see whether an endpoint still reads, for which its own inputs wait.
    fn check_parked(&mut self, now: Time, id: EndpointId) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let unparked = (!endpoint.transport.is_datagram()).then_some(Event::Unparked(endpoint.tag));
        let Some(slow) = endpoint.slow.as_mut() else { return };
        slow.parked = None;
        let deadline = slow.progress + IDLE;
        if deadline > now {
            slow.parked = Some(deadline);
            self.deadlines.insert((deadline, id, Deadline::Parked));
        } else {
            slow.idle = true;
            self.events.extend(unparked);
        }
    }

    /// The settings have changed: whom inputs wait for, and for how long, is decided anew.
    pub(crate) fn reconsider_lags(&mut self, now: Now) {
        let lagging: Vec<(Lag, EndpointId)> = self.laggards.iter().map(|(lag, _, id)| (lag, id)).collect();
        for (lag, id) in lagging {
            let patient = self.registry.get(id).is_some_and(|endpoint| endpoint.is_patient());
            let anew = match lag {
                Lag::HoldsInputs | Lag::Unprotected => patient,
                Lag::CatchingUp => self.settings.patience == Patience::Forever || self.has_nearly_caught_up(id),
                Lag::None | Lag::Behind => false,
            };
            if anew {
                self.set_lag(now.time, id, Lag::Behind);
            }
        }
    }

    /// When [`Engine::expire`] has to be called next, if nothing else happens.
    pub fn deadline(&self) -> Option<Time> {
        let endpoints = self.deadlines.first().map(|(deadline, ..)| *deadline);
        endpoints.into_iter().chain(self.sessions.deadline()).chain(self.silence_deadline()).min()
    }

    /// Does what is due by now.
    pub fn expire(&mut self, now: Now) {
        while let Some((deadline, id, kind)) = self.deadlines.first().copied()
            && deadline <= now.time
        {
            self.deadlines.pop_first();
            match kind {
                Deadline::Message => self.message_timeout(now, id),
                Deadline::Patience => self.patience_due(now.time, id),
                Deadline::Farewell => self.farewell_is_over(now, id),
                Deadline::Parked => self.check_parked(now.time, id),
                Deadline::Recovery => self.recovery_due(now, id),
            }
        }
        self.expire_silences(now);
        self.sessions.expire(now.time);
        self.end_leases(now);
    }

    /// Enters an endpoint whose socket is full among those that are behind, or moves it there.
    pub(crate) fn record_position(&mut self, now: Now, id: EndpointId) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let Some(floor) = endpoint.oldest_needed().filter(|floor| floor.sequence < endpoint.until) else {
            // It needs nothing of the log any more, only its outbox.
            return self.clear_lag(now, id);
        };
        let position = self.log.position(floor);
        let patient = endpoint.is_patient();
        let slow = endpoint.slow.get_or_insert_with(|| Box::new(Slow::new(now.time)));
        if slow.lag() == Lag::None || position > slow.position() {
            slow.progress = now.time;
        }
        let lag = match slow.lag() {
            Lag::None if patient => Lag::Behind,
            Lag::None => Lag::Unprotected,
            lag => lag,
        };
        self.laggards.place(id, slow, lag, position);
        if patient && lag != Lag::Behind && self.has_nearly_caught_up(id) {
            self.set_lag(now.time, id, Lag::Behind);
        }
    }

    /// Whether the next input, if it is as large as the largest so far, would displace what an endpoint has yet to get.
    /// Messages have to be nearly as large as `max_behind` for that.
    pub(crate) fn is_in_danger(&self, id: EndpointId) -> bool {
        let (frame, text) = self.largest;
        let text = self.registry.has_text().then_some(text);
        self.log.needs_page(frame, text) && self.reads_before(id, self.log.oldest_after(frame, text))
    }

    fn reads_before(&self, id: EndpointId, oldest: Oldest) -> bool {
        let endpoint = self.registry.get(id);
        endpoint.is_some_and(|endpoint| endpoint.floor().sequence < oldest.of(endpoint.rendition()))
    }

    /// An endpoint is caught up, or gone.
    pub(crate) fn clear_lag(&mut self, now: Now, id: EndpointId) {
        self.set_lag(now.time, id, Lag::None);
    }

    /// An endpoint is more than half of `max_behind` behind.
    fn hold_inputs_for(&mut self, now: Time, id: EndpointId) {
        let Some(slow) = self.registry.get_mut(id).and_then(|endpoint| endpoint.slow.as_mut()) else { return };
        self.laggards.wait(id, slow, self.log.head(), now);
        if let Patience::Limited(limit) = self.settings.patience {
            match slow.patience(limit, self.settings.max_behind, now) {
                Some(deadline) => {
                    slow.deadline = Some(deadline);
                    self.deadlines.insert((deadline, id, Deadline::Patience));
                }
                None => return self.set_lag(now, id, Lag::Unprotected),
            }
        }
        if self.held_since.is_none() {
            self.held_since = Some(now);
            self.counters.waits += 1;
        }
        self.announce(id, Event::InputsHeld);
    }

    /// The patience of an endpoint would be used up by now if it had read nothing meanwhile.
    fn patience_due(&mut self, now: Time, id: EndpointId) {
        let Some(slow) = self.registry.get_mut(id).and_then(|endpoint| endpoint.slow.as_mut()) else { return };
        slow.deadline = None;
        let Patience::Limited(limit) = self.settings.patience else { return };
        if let Some(deadline) = slow.patience(limit, self.settings.max_behind, now) {
            slow.deadline = Some(deadline);
            self.deadlines.insert((deadline, id, Deadline::Patience));
        } else {
            self.set_lag(now, id, Lag::Unprotected);
            self.announce(id, Event::PatienceExhausted);
        }
    }

    fn announce(&mut self, id: EndpointId, event: fn(u64) -> Event) {
        if let Some(endpoint) = self.registry.get(id) {
            self.events.push_back(event(endpoint.number));
        }
    }

    fn set_lag(&mut self, now: Time, id: EndpointId, lag: Lag) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let unparked = (!endpoint.transport.is_datagram()).then_some(Event::Unparked(endpoint.tag));
        let Some(slow) = endpoint.slow.as_mut() else { return };
        if slow.lag() == lag {
            return;
        }
        if let Some(deadline) = slow.deadline {
            self.deadlines.remove(&(deadline, id, Deadline::Patience));
        }
        if matches!(lag, Lag::None | Lag::Behind) {
            slow.idle = false;
            if let Some(deadline) = slow.parked.take() {
                self.deadlines.remove(&(deadline, id, Deadline::Parked));
                self.events.extend(unparked);
            }
        }
        let waited = slow.lag() == Lag::HoldsInputs;
        if waited {
            let (patience, max_behind) = (self.settings.patience, self.settings.max_behind);
            self.laggards.stop_waiting(id, slow, lag, patience, max_behind, now);
        } else {
            let position = slow.position();
            self.laggards.place(id, slow, lag, position);
        }
        if waited
            && self.laggards.waited() == 0
            && let Some(since) = self.held_since.take()
        {
            self.held += now.since(since);
            self.events.push_back(Event::InputsReleased);
        }
    }

    /// How long inputs have been held in all, up to `now`.
    pub(crate) fn held_until(&self, now: Time) -> Duration {
        self.held + self.held_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Makes room for a record of these sizes: nobody may still be reading what it displaces.
    pub(crate) fn make_room(&mut self, now: Now, frame: usize, text: Option<usize>) {
        if !self.log.needs_page(frame, text) {
            // Nothing is displaced.
            return;
        }
        let oldest = self.log.oldest_after(frame, text);
        while let Some((place, id)) = self.first_undecided()
            && place < oldest.latest()
        {
            self.apply_policy(now, id);
        }
        let floor = self.log.position(Cursor::at(oldest.latest()));
        if self.laggards.furthest().is_none_or(|(position, _)| position >= floor) {
            return;
        }
        let behind = |(_, position, id): (Lag, u64, EndpointId)| (position < floor).then_some(id);
        for id in self.laggards.iter().filter_map(behind).collect::<Vec<_>>() {
            if self.reads_before(id, oldest) {
                self.apply_policy(now, id);
            }
        }
    }

    fn message_timeout(&mut self, now: Now, id: EndpointId) {
        let Some(unfinished) = self.unfinished.get(&id).copied() else { return };
        // While inputs are held, nobody reads what may have come long ago.
        let held = self.held_until(now.time);
        let pardon = held.saturating_sub(unfinished.held);
        if !pardon.is_zero() || self.held_since.is_some() {
            let deadline = now.time + pardon.max(Duration::from_secs(1));
            self.unfinished.insert(id, crate::Unfinished { deadline, held });
            self.deadlines.insert((deadline, id, Deadline::Message));
        } else {
            self.leave(now, id, Reason::MessageTimeout);
        }
    }
}
