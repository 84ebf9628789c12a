//! How endpoints leave: after everything that was due to them and a farewell, or immediately because their connection
//! is lost.

use upcall_wire::farewell::Farewell;
use upcall_wire::frame::Frame;
use upcall_wire::reason::Reason;

use crate::deadlines::Deadline;
use crate::id::{EndpointId, LimitSource};
use crate::log::reading::Cursor;
use crate::log::{Log, Rendition};
use crate::registry::endpoint::{Delivery, Endpoint};
use crate::session::DetachedLimits;
use crate::{Engine, Event, Now};

impl Engine {
    /// Lets an endpoint leave: it receives what is due to it until now, and a farewell if the reason is the daemon's
    /// own decision. Then it is removed. Nothing more is accepted from it. An endpoint that does not read everything in
    /// time is removed anyway, unless the client itself closed its side: then there is no deadline.
    pub fn leave(&mut self, now: Now, id: EndpointId, reason: Reason) {
        self.finish_message(id);
        self.end_detection(id);
        let (next, broadcast) = (self.log.next(), self.turn.broadcast);
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        if endpoint.delivery == Delivery::WriteClosed {
            return self.remove(now, id, Reason::Reset, false);
        }
        if endpoint.leaving.is_some_and(|earlier| earlier != Reason::Closed || !reason.is_announced()) {
            return;
        }
        if endpoint.is_idle() {
            // The inputs of this turn are due to it, if it receives any.
            let first = broadcast.filter(|_| endpoint.receives).unwrap_or(next);
            endpoint.cursor = endpoint.cursor.max(Cursor::at(first));
            endpoint.delivery = Delivery::Ready;
            self.ready.push(id);
        }
        if endpoint.leaving.replace(reason).is_none() && endpoint.receives {
            endpoint.until = next;
        }
        let ended = endpoint.native().is_some_and(|native| native.ended);
        if reason.is_announced() || endpoint.is_native() {
            let bytes = farewell_after(&self.log, endpoint, endpoint.until, reason);
            endpoint.outbox.get_or_insert_default().set_farewell(bytes);
        }
        if reason.is_announced() || ended {
            self.deadlines.set(now.time + self.settings.farewell, id, Deadline::Farewell);
        }
        self.registry.stop_receiving(id);
        self.tidy_detection();
    }

    /// Removes an endpoint whose connection is gone.
    pub fn connection_lost(&mut self, now: Now, id: EndpointId, reason: Reason) {
        self.clear_lag(now, id);
        self.remove(now, id, reason, false);
    }

    /// Nothing can be written to an endpoint any more. What it sent before may still be read, until the driver
    /// lets it [leave](Engine::leave).
    pub fn close_writes(&mut self, now: Now, id: EndpointId) {
        self.clear_lag(now, id);
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        endpoint.delivery = Delivery::WriteClosed;
        endpoint.outbox = None;
        if endpoint.leaving.is_some() {
            self.remove(now, id, Reason::Reset, false);
        } else {
            self.registry.stop_receiving(id);
        }
    }

    /// The time that an endpoint had to read its farewell is over.
    pub(crate) fn end_farewell(&mut self, now: Now, id: EndpointId) {
        if let Some(reason) = self.registry.get(id).and_then(|endpoint| endpoint.leaving) {
            self.connection_lost(now, id, reason);
        }
    }

    /// Removes an endpoint, and detaches its session if that can be resumed. `complete` is set if everything was sent
    /// to it.
    pub(crate) fn remove(&mut self, now: Now, id: EndpointId, reason: Reason, complete: bool) {
        self.finish_message(id);
        self.disarm_recovery(id);
        let Some(mut endpoint) = self.registry.remove(id) else { return };
        self.tidy_detection();
        self.leases.remove(id);
        let (number, first_unsent) = (endpoint.number, endpoint.first_unsent());
        if let Some(native) = endpoint.native_mut()
            && self.sessions.unbind(number, id)
            && !native.ended
        {
            let mut session = std::mem::take(&mut native.session);
            session.sent = session.sent.max(first_unsent);
            let per_source = native.max_sessions.unwrap_or(usize::MAX);
            let limits = DetachedLimits { all: self.settings.max_endpoints, per_source };
            let from = (endpoint.listener, LimitSource::of(endpoint.peer));
            self.sessions.detach(now.time + self.settings.session_ttl, session, from, limits);
        }
        self.counters.left[reason as usize] += 1;
        self.events.push_back(Event::Left { endpoint: Box::new(endpoint), reason, complete });
    }
}

/// The farewell to an endpoint that receives everything before sequence `until`. In text it is a line of its own, also
/// after an upcall that did not end in a newline.
pub(crate) fn farewell_after(log: &Log, endpoint: &Endpoint, until: u64, reason: Reason) -> Vec<u8> {
    if endpoint.rendition() == Rendition::Frames {
        return Frame::Bye(reason.name()).to_vec();
    }
    let last = until - 1;
    let got_some = endpoint.upcalls > 0 || endpoint.cursor < Cursor::at(until);
    let text = log.ring(Rendition::Text);
    let is_open_line = got_some
        && !endpoint.transport.is_datagram()
        && last >= text.oldest()
        && text.payload(last).is_some_and(|payload| !payload.ends_with(b"\n"));
    let line = Farewell::line(reason.name());
    if is_open_line { format!("\n{line}") } else { line }.into_bytes()
}
