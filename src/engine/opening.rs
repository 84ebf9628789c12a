//! Which protocol an endpoint speaks: its first byte tells, or its silence. Until then its place in the log is kept.

use std::time::Duration;

use super::endpoint::{Delivery, EndpointId, Opening, Speech};
use super::{Deadline, Engine, Now};
use crate::wire::reason::Reason;

/// Who may speak text, and has said nothing for so long, does.
const SILENCE: Duration = Duration::from_secs(1);

/// How long a HELLO may take to come where nothing else will do.
const HELLO: Duration = Duration::from_secs(10);

impl Engine {
    /// A stream was registered whose protocol is to be found out.
    pub(super) fn begin_deciding(&mut self, now: Now, id: EndpointId, opening: Opening) {
        let time = match opening {
            Opening::Text => return,
            Opening::Undecided => SILENCE,
            Opening::Native => HELLO,
        };
        self.set_silence(now, id, time, false);
        if opening == Opening::Undecided {
            self.undecided.insert((self.log.next(), id));
        }
    }

    fn set_silence(&mut self, now: Now, id: EndpointId, time: Duration, begun: bool) {
        let until = now.time + time;
        let silence = (until, self.held_until(now.time), begun);
        if let Some((earlier, ..)) = self.silences.insert(id, silence) {
            self.deadlines.remove(&(earlier, id, Deadline::Silence));
        }
        self.deadlines.insert((until, id, Deadline::Silence));
    }

    /// An endpoint has begun to speak text.
    pub fn speaks_text(&mut self, id: EndpointId) {
        if !matches!(self.registry.get(id).map(|endpoint| &endpoint.speech), Some(Speech::Undecided)) {
            return;
        }
        self.forget_silence(id);
        self.registry.speaks(id, Speech::Text, None);
        if let Some(endpoint) = self.registry.get_mut(id) {
            endpoint.delivery = Delivery::Ready;
            self.ready.push(id);
        }
    }

    /// An endpoint has begun to speak native: its HELLO is awaited. Says whether it may: one that was silent for too long
    /// speaks text for good.
    pub fn speaks_native(&mut self, now: Now, id: EndpointId) -> bool {
        if matches!(self.registry.get(id).map(|endpoint| &endpoint.speech), Some(Speech::Undecided)) {
            self.set_silence(now, id, HELLO, true);
            self.registry.stop_receiving(id);
            self.registry.speaks(id, Speech::Greeting, None);
            if let Some(endpoint) = self.registry.get_mut(id) {
                // Nothing is due to it before it is welcome; where it was is kept.
                (endpoint.delivery, endpoint.until) = (Delivery::CaughtUp, endpoint.cursor.sequence);
            }
        }
        self.has_begun(id);
        self.registry.get(id).is_some_and(|endpoint| endpoint.speech == Speech::Greeting)
    }

    /// An endpoint has said something in frames, and gets its answers and its farewell so.
    pub(super) fn has_begun(&mut self, id: EndpointId) {
        if let Some((.., begun)) = self.silences.get_mut(&id) {
            *begun = true;
        }
    }

    /// An endpoint has begun to speak text where that will not do: it is told why, in text, and leaves.
    pub fn turn_away(&mut self, now: Now, id: EndpointId, reason: Reason) {
        if self.registry.get(id).is_some_and(|endpoint| endpoint.speech == Speech::Greeting) {
            self.forget_silence(id);
            self.registry.speaks(id, Speech::Text, None);
        }
        self.leave(now, id, reason);
    }

    /// An endpoint has said nothing for long enough.
    pub(super) fn is_silent(&mut self, now: Now, id: EndpointId) {
        let Some((_, held, begun)) = self.silences.get(&id).copied() else { return };
        let pardon = self.held_until(now.time).saturating_sub(held);
        if !pardon.is_zero() {
            // What it has said may be waiting to be read, with everybody's inputs.
            let while_held = if self.held_since.is_some() { SILENCE } else { Duration::ZERO };
            return self.set_silence(now, id, pardon.max(while_held), begun);
        }
        match self.registry.get(id).map(|endpoint| &endpoint.speech) {
            Some(Speech::Undecided) => self.speaks_text(id),
            Some(Speech::Greeting) => self.leave(now, id, Reason::Silent),
            _ => self.forget_silence(id),
        }
    }

    /// Nobody may hold a place in the log for long that others need: who is still undecided then gets text, and who has
    /// yet to say HELLO gets its place when it does.
    pub(super) fn hurry_undecided(&mut self) {
        while let Some((place, id)) = self.undecided.first().copied()
            && (self.log.head() - self.log.position(super::Cursor::at(place)) > self.settings.max_behind / 4
                || self.is_in_danger(id))
        {
            self.undecided.pop_first();
            self.speaks_text(id);
        }
    }

    /// Takes out when an endpoint would be found silent. A crowd that comes at once is soon decided: its memory is given back.
    fn take_silence(&mut self, id: EndpointId) -> Option<(super::Time, Duration, bool)> {
        let taken = self.silences.remove(&id);
        if self.silences.capacity() > 4 * self.silences.len().max(16) {
            self.silences.shrink_to(2 * self.silences.len());
        }
        taken
    }

    /// It no longer matters whether an endpoint says something.
    pub(super) fn forget_silence(&mut self, id: EndpointId) {
        if let Some((until, ..)) = self.take_silence(id) {
            self.deadlines.remove(&(until, id, Deadline::Silence));
        }
        if let Some(endpoint) = self.registry.get(id) {
            self.undecided.remove(&(endpoint.place(), id));
        }
    }

    /// An endpoint leaves before it is known what it speaks: it is told so in text if it has not begun to speak native.
    pub(super) fn stop_deciding(&mut self, id: EndpointId) {
        let is_mute = self.silences.get(&id).is_some_and(|(.., begun)| !begun);
        self.forget_silence(id);
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        if is_mute && endpoint.speech == Speech::Greeting {
            self.registry.speaks(id, Speech::Text, None);
            return;
        }
        if endpoint.delivery == Delivery::Undecided {
            if !endpoint.receives {
                endpoint.cursor = super::Cursor::at(next);
            }
            endpoint.delivery = Delivery::Ready;
            self.ready.push(id);
            self.registry.speaks(id, Speech::Text, None);
        }
    }
}
