//! Detects which protocol an endpoint speaks: by its first byte, or by its silence. Its place in the log is kept until
//! the protocol is known.

use std::collections::VecDeque;
use std::time::Duration;

use upcall_wire::reason::Reason;

use crate::id::EndpointId;
use crate::log::reading::Cursor;
use crate::registry::Registry;
use crate::registry::endpoint::{Delivery, DetectedProtocol, Endpoint, ExpectedProtocol};
use crate::{Engine, Now, Time};

/// An endpoint that may speak text and sends nothing for this long is a text endpoint.
const SILENCE: Duration = Duration::from_secs(1);

/// How long an endpoint may take to send the HELLO that its listener requires.
const HELLO: Duration = Duration::from_secs(10);

/// What the endpoints of a queue have not sent yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// Anything at all.
    FirstByte,
    /// Their HELLO.
    Hello,
}

impl Awaited {
    fn is_awaited_of(self, endpoint: &Endpoint) -> bool {
        endpoint.leaving.is_none()
            && match self {
                Awaited::FirstByte => endpoint.protocol == DetectedProtocol::Undecided,
                Awaited::Hello => endpoint.awaits_hello(),
            }
    }

    fn is_awaited(self, registry: &Registry, id: EndpointId) -> bool {
        registry.get(id).is_some_and(|endpoint| self.is_awaited_of(endpoint))
    }
}

/// Endpoints that have not sent the awaited bytes yet, in the order in which they were entered. That is also the order
/// of their places in the log and of their deadlines: all have the same time limit, and its clock stops for all of them
/// while inputs are held.
#[derive(Debug)]
struct SilenceQueue {
    awaited: Awaited,
    time: Duration,
    /// The deadlines, on a clock that stops while inputs are held. An endpoint that has sent something, or left, stays
    /// in the queue until it reaches the front.
    queue: VecDeque<(Time, EndpointId)>,
}

impl SilenceQueue {
    fn new(awaited: Awaited, time: Duration) -> SilenceQueue {
        SilenceQueue { awaited, time, queue: VecDeque::new() }
    }

    fn enter(&mut self, now: Time, id: EndpointId, registry: &Registry) {
        if self.queue.len() > 2 * registry.len() + 64 {
            // Many endpoints have registered and left behind an endpoint that has not sent anything yet.
            let SilenceQueue { awaited, queue, .. } = self;
            queue.retain(|(_, id)| awaited.is_awaited(registry, *id));
        }
        self.queue.push_back((now + self.time, id));
    }

    /// Keeps the invariant that the front entry is an endpoint that has not sent anything yet. Releases memory, because
    /// many endpoints that connect at the same time are soon decided.
    fn tidy(&mut self, registry: &Registry) {
        while self.queue.front().is_some_and(|(_, id)| !self.awaited.is_awaited(registry, *id)) {
            self.queue.pop_front();
        }
        if self.queue.capacity() > 4 * self.queue.len().max(16) {
            self.queue.shrink_to(2 * self.queue.len());
        }
    }

    fn front(&self) -> Option<(Time, EndpointId)> {
        self.queue.front().copied()
    }

    /// The front endpoint, if its time is over.
    fn due(&self, now: Time) -> Option<EndpointId> {
        self.front().filter(|(until, _)| *until <= now).map(|(_, id)| id)
    }

    fn check_invariants(&self, registry: &Registry) {
        assert!(self.queue.iter().is_sorted_by_key(|(until, _)| *until));
        assert!(self.front().is_none_or(|(_, id)| self.awaited.is_awaited(registry, id)));
        let endpoints = registry.iter().filter(|(_, endpoint)| self.awaited.is_awaited_of(endpoint));
        for (id, endpoint) in endpoints {
            assert!(self.queue.iter().any(|(_, other)| *other == id), "#{} is not in the queue", endpoint.number);
        }
    }
}

/// All endpoints that have not sent what decides their protocol, or their HELLO.
#[derive(Debug)]
pub(crate) struct ProtocolDetection {
    /// Endpoints of unknown protocol. Their places in the log are kept.
    undecided: SilenceQueue,
    awaiting_hello: SilenceQueue,
}

impl ProtocolDetection {
    pub(crate) fn new() -> ProtocolDetection {
        ProtocolDetection {
            undecided: SilenceQueue::new(Awaited::FirstByte, SILENCE),
            awaiting_hello: SilenceQueue::new(Awaited::Hello, HELLO),
        }
    }

    /// Whether the protocol of some endpoint is not known yet.
    pub(crate) fn has_undecided(&self) -> bool {
        !self.undecided.queue.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn undecided_entries(&self) -> usize {
        self.undecided.queue.len()
    }

    /// Panics if an invariant does not hold.
    pub(crate) fn check_invariants(&self, registry: &Registry) {
        self.undecided.check_invariants(registry);
        self.awaiting_hello.check_invariants(registry);
    }
}

impl Engine {
    /// Starts to wait for the first byte, or the HELLO, of an endpoint.
    pub(crate) fn begin_detection(&mut self, now: Now, id: EndpointId, protocol: ExpectedProtocol) {
        if protocol == ExpectedProtocol::Text {
            return;
        }
        let now = self.unheld(now.time);
        let queue = match protocol {
            ExpectedProtocol::Native => &mut self.detection.awaiting_hello,
            _ => &mut self.detection.undecided,
        };
        queue.enter(now, id, &self.registry);
    }

    /// The time on a clock that stops while inputs are held, because what an endpoint has sent may be unread then.
    fn unheld(&self, now: Time) -> Time {
        Time(now.since(Time(0)).saturating_sub(self.laggards.held_until(now)).as_nanos() as u64)
    }

    /// Updates the queues after some endpoints may have sent what was awaited, or have left.
    pub(crate) fn tidy_detection(&mut self) {
        self.detection.undecided.tidy(&self.registry);
        self.detection.awaiting_hello.tidy(&self.registry);
    }

    /// When an endpoint will have been silent for too long, unless inputs are held in the meantime.
    pub(crate) fn silence_deadline(&self) -> Option<Time> {
        let fronts = [self.detection.undecided.front(), self.detection.awaiting_hello.front()].into_iter().flatten();
        let first = fronts.map(|(until, _)| until).min().filter(|_| !self.laggards.is_held());
        first.map(|until| until + self.laggards.held_before())
    }

    /// Decides on the endpoints that have been silent for too long.
    pub(crate) fn expire_silences(&mut self, now: Now) {
        let unheld = self.unheld(now.time);
        while let Some(id) = self.detection.undecided.due(unheld) {
            self.detected_text(now, id);
        }
        while let Some(id) = self.detection.awaiting_hello.due(unheld) {
            self.leave(now, id, Reason::Silent);
        }
    }

    /// An endpoint has begun to speak text. Inputs that arrived while its protocol was unknown do not count as lag.
    pub fn detected_text(&mut self, now: Now, id: EndpointId) {
        if self.registry.get(id).map(|endpoint| endpoint.protocol) != Some(DetectedProtocol::Undecided) {
            return;
        }
        self.registry.set_protocol(id, DetectedProtocol::Text, None);
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

    /// An endpoint has begun to speak native, so it must send its HELLO. Returns `false` if it was silent for too long
    /// before: then it remains a text endpoint.
    pub fn detected_native(&mut self, now: Now, id: EndpointId) -> bool {
        if self.registry.get(id).map(|endpoint| endpoint.protocol) == Some(DetectedProtocol::Undecided) {
            self.registry.stop_receiving(id);
            self.registry.set_protocol(id, DetectedProtocol::AwaitingHello { sent_frames: true }, None);
            if let Some(endpoint) = self.registry.get_mut(id) {
                // Nothing is due to it before its HELLO is accepted. Its place is kept as the end of what it receives.
                (endpoint.delivery, endpoint.until) = (Delivery::CaughtUp, endpoint.cursor.sequence);
            }
            self.begin_detection(now, id, ExpectedProtocol::Native);
            self.tidy_detection();
        }
        self.note_frame(id);
        self.registry.get(id).is_some_and(Endpoint::awaits_hello)
    }

    /// An endpoint has sent something in frames, so its answers and its farewell are frames.
    pub(crate) fn note_frame(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.registry.get_mut(id)
            && let DetectedProtocol::AwaitingHello { sent_frames } = &mut endpoint.protocol
        {
            *sent_frames = true;
        }
    }

    /// An endpoint has begun to speak text, which its listener does not allow. It receives the reason in text, and
    /// leaves.
    pub fn reject(&mut self, now: Now, id: EndpointId, reason: Reason) {
        if self.registry.get(id).is_some_and(Endpoint::awaits_hello) {
            self.registry.set_protocol(id, DetectedProtocol::Text, None);
        }
        self.leave(now, id, reason);
    }

    /// Turns undecided endpoints into text endpoints if their place in the log is about to be displaced. This has no
    /// disadvantage for them later, because what they have sent may be unread.
    pub(crate) fn decide_endangered(&mut self, now: Now) {
        while let Some((_, id)) = self.first_undecided()
            && self.is_in_danger(id)
        {
            self.detected_text(now, id);
        }
    }

    /// The undecided endpoint with the first place in the log, and that place.
    pub(crate) fn first_undecided(&self) -> Option<(u64, EndpointId)> {
        let (_, id) = self.detection.undecided.front()?;
        self.registry.get(id).map(|endpoint| (endpoint.cursor.sequence, id))
    }

    /// Ends the detection of an endpoint that leaves. If its protocol is not known yet, its farewell is text.
    pub(crate) fn end_detection(&mut self, id: EndpointId) {
        let next = self.log.next();
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        if endpoint.protocol == (DetectedProtocol::AwaitingHello { sent_frames: false }) {
            return self.registry.set_protocol(id, DetectedProtocol::Text, None);
        }
        if endpoint.delivery == Delivery::Undecided {
            if !endpoint.receives {
                endpoint.cursor = Cursor::at(next);
            }
            endpoint.delivery = Delivery::Ready;
            self.ready.push(id);
            self.registry.set_protocol(id, DetectedProtocol::Text, None);
        }
    }
}
