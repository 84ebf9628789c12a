//! Which protocol an endpoint speaks: its first byte tells, or its silence. Until then its place in the log is kept.

use std::collections::VecDeque;
use std::time::Duration;

use crate::id::EndpointId;
use crate::registry::Registry;
use crate::registry::endpoint::{Delivery, ExpectedProtocol, Protocol};
use crate::{Engine, Now, Time};
use upcall_wire::reason::Reason;

/// Who may speak text, and has said nothing for so long, does.
const SILENCE: Duration = Duration::from_secs(1);

/// How long a HELLO may take to come where nothing else will do.
const HELLO: Duration = Duration::from_secs(10);

/// Those who have yet to say something, first who came first. That is also the order of their places in the log, and of
/// the ends of their time: it is as long for each of them, and while inputs are held it stands still for all.
#[derive(Debug)]
pub(crate) struct SilenceQueue {
    /// What they are taken to speak as long as they have not said it.
    protocol: Protocol,
    time: Duration,
    /// Until when each has time, on a clock that stands still while inputs are held. Who has said something, or left, stays
    /// until it comes to the front.
    queue: VecDeque<(Time, EndpointId)>,
}

impl SilenceQueue {
    /// Nobody yet, of those of whom nothing is known.
    pub(crate) fn undecided() -> SilenceQueue {
        SilenceQueue { protocol: Protocol::Undecided, time: SILENCE, queue: VecDeque::new() }
    }

    /// Nobody yet, of those who are to say HELLO.
    pub(crate) fn awaiting_hello() -> SilenceQueue {
        SilenceQueue { protocol: Protocol::AwaitingHello, time: HELLO, queue: VecDeque::new() }
    }

    fn enter(&mut self, now: Time, id: EndpointId, registry: &Registry) {
        if self.queue.len() > 2 * registry.len() + 64 {
            // Many have come and gone behind one who has yet to say something.
            let SilenceQueue { protocol, queue, .. } = self;
            queue.retain(|(_, id)| is_awaited(registry, *protocol, *id));
        }
        self.queue.push_back((now + self.time, id));
    }

    /// Who is at the front is to be one who has yet to say something. A crowd that comes at once is soon decided: its memory is
    /// given back.
    fn tidy(&mut self, registry: &Registry) {
        while self.queue.front().is_some_and(|(_, id)| !is_awaited(registry, self.protocol, *id)) {
            self.queue.pop_front();
        }
        if self.queue.capacity() > 4 * self.queue.len().max(16) {
            self.queue.shrink_to(2 * self.queue.len());
        }
    }

    pub(crate) fn front(&self) -> Option<(Time, EndpointId)> {
        self.queue.front().copied()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn check_invariants(&self, registry: &Registry) {
        assert!(self.queue.iter().is_sorted_by_key(|(until, _)| *until));
        assert!(self.front().is_none_or(|(_, id)| is_awaited(registry, self.protocol, id)));
        let endpoints = registry.iter().filter(|(id, _)| is_awaited(registry, self.protocol, *id));
        for (id, endpoint) in endpoints {
            assert!(self.queue.iter().any(|(_, other)| *other == id), "#{} is not awaited", endpoint.number);
        }
    }
}

fn is_awaited(registry: &Registry, protocol: Protocol, id: EndpointId) -> bool {
    registry.get(id).is_some_and(|endpoint| endpoint.protocol == protocol && endpoint.leaving.is_none())
}

impl Engine {
    /// A stream was registered whose protocol is to be found out.
    pub(crate) fn begin_detection(&mut self, now: Now, id: EndpointId, protocol: ExpectedProtocol) {
        let now = self.unheld(now.time);
        match protocol {
            ExpectedProtocol::Text => {}
            ExpectedProtocol::Auto => self.undecided.enter(now, id, &self.registry),
            ExpectedProtocol::Native => self.awaiting_hello.enter(now, id, &self.registry),
        }
    }

    /// The time on a clock that stands still while inputs are held: what somebody has said may be waiting to be read then.
    fn unheld(&self, now: Time) -> Time {
        Time(now.since(Time(0)).saturating_sub(self.held_until(now)).as_nanos() as u64)
    }

    /// Some may have said what was awaited of them, or have left.
    pub(crate) fn tidy_detection(&mut self) {
        self.undecided.tidy(&self.registry);
        self.awaiting_hello.tidy(&self.registry);
    }

    /// When somebody will have said nothing for long enough, unless inputs are held meanwhile.
    pub(crate) fn silence_deadline(&self) -> Option<Time> {
        let fronts = [self.undecided.front(), self.awaiting_hello.front()].into_iter().flatten();
        let first = fronts.map(|(until, _)| until).min().filter(|_| self.held_since.is_none());
        first.map(|until| until + self.held)
    }

    /// Decides on those who have said nothing for long enough.
    pub(crate) fn expire_silences(&mut self, now: Now) {
        let unheld = self.unheld(now.time);
        while let Some((_, id)) = self.undecided.front().filter(|(until, _)| *until <= unheld) {
            self.detected_text(now, id);
        }
        while let Some((_, id)) = self.awaiting_hello.front().filter(|(until, _)| *until <= unheld) {
            self.leave(now, id, Reason::Silent);
        }
    }

    /// An endpoint has begun to speak text. What was said while that was not known is nothing that it is behind with.
    pub fn detected_text(&mut self, now: Now, id: EndpointId) {
        if !matches!(self.registry.get(id).map(|endpoint| &endpoint.protocol), Some(Protocol::Undecided)) {
            return;
        }
        self.registry.set_protocol(id, Protocol::Text, None);
        if let Some(endpoint) = self.registry.get_mut(id)
            && endpoint.delivery == Delivery::Undecided
        {
            endpoint.delivery = Delivery::Ready;
            let place = endpoint.cursor;
            self.ready.push(id);
            if self.log.head() - self.log.position(place) > self.settings.max_behind / 4 {
                self.catch_up(now, id);
            }
        }
        self.tidy_detection();
    }

    /// An endpoint has begun to speak native: its HELLO is awaited. Says whether it may: one that was silent for too long
    /// speaks text for good.
    pub fn detected_native(&mut self, now: Now, id: EndpointId) -> bool {
        if matches!(self.registry.get(id).map(|endpoint| &endpoint.protocol), Some(Protocol::Undecided)) {
            self.registry.stop_receiving(id);
            self.registry.set_protocol(id, Protocol::AwaitingHello, None);
            if let Some(endpoint) = self.registry.get_mut(id) {
                // Nothing is due to it before it is welcome; where it was is kept.
                (endpoint.delivery, endpoint.until) = (Delivery::CaughtUp, endpoint.cursor.sequence);
            }
            self.begin_detection(now, id, ExpectedProtocol::Native);
            self.tidy_detection();
        }
        self.note_frame(id);
        self.registry.get(id).is_some_and(|endpoint| endpoint.protocol == Protocol::AwaitingHello)
    }

    /// An endpoint has said something in frames, and gets its answers and its farewell so.
    pub(crate) fn note_frame(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.registry.get_mut(id) {
            endpoint.begun = true;
        }
    }

    /// An endpoint has begun to speak text where that will not do: it is told why, in text, and leaves.
    pub fn reject(&mut self, now: Now, id: EndpointId, reason: Reason) {
        if self.registry.get(id).is_some_and(|endpoint| endpoint.protocol == Protocol::AwaitingHello) {
            self.registry.set_protocol(id, Protocol::Text, None);
        }
        self.leave(now, id, reason);
    }

    /// Nobody may hold a place in the log that is about to be displaced: who is still undecided then gets text. What it has
    /// said may be waiting to be read, so it is not for being behind that it is decided on.
    pub(crate) fn decide_endangered(&mut self, now: Now) {
        while let Some((_, id)) = self.first_undecided()
            && self.is_in_danger(id)
        {
            self.detected_text(now, id);
        }
    }

    /// The one of those who are undecided whose place in the log is the first.
    pub(crate) fn first_undecided(&self) -> Option<(u64, EndpointId)> {
        let (_, id) = self.undecided.front()?;
        self.registry.get(id).map(|endpoint| (endpoint.cursor.sequence, id))
    }

    /// An endpoint leaves before it is known what it speaks: it is told so in text if it has not begun to speak native.
    pub(crate) fn end_detection(&mut self, id: EndpointId) {
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        if endpoint.protocol == Protocol::AwaitingHello && !endpoint.begun {
            return self.registry.set_protocol(id, Protocol::Text, None);
        }
        if endpoint.delivery == Delivery::Undecided {
            if !endpoint.receives {
                endpoint.cursor = crate::Cursor::at(next);
            }
            endpoint.delivery = Delivery::Ready;
            self.ready.push(id);
            self.registry.set_protocol(id, Protocol::Text, None);
        }
    }
}
