//! What native endpoints say: HELLO and what it leads to, messages and their receipts, filters, signs of life.

use std::rc::Rc;

use crate::delivery::acknowledged::Acknowledged;
use crate::delivery::outbox::MAX_CONTROL;
use crate::id::EndpointId;
use crate::input::{Input, Origin};
use crate::log::Rendition;
use crate::log::filters::Filters;
use crate::log::reading::Cursor;
use crate::registry::endpoint::{Delivery, Native, Protocol};
use crate::session::resume::user_of;
use crate::session::{MessageStatus, Session};
use crate::{Accepted, Engine, Intake, Now};
use upcall_wire::address::Peer;
use upcall_wire::frame::{
    Code, ErrorFrame, Filters as FilterFrame, Frame, Gap, GapReason, Hello, Role, Send, VERSION, Violation, Welcome,
    kind,
};
use upcall_wire::reason::Reason;

/// What a listener allows the native endpoints that come in there.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Their inputs are taken.
    pub sends: bool,
    /// Upcalls are due to them.
    pub receives: bool,
    /// They may ask for what was said before they came.
    pub history: bool,
    /// The most sessions that are kept without a connection of one address (IPv4), /64 network (IPv6) or user (Unix).
    pub max_sessions: Option<usize>,
}

/// Why a HELLO is not welcome, or another frame not accepted.
pub(crate) const fn refusal(code: Code, about: u8, text: &'static str) -> Violation {
    Violation { code, about, reference: 0, text }
}

impl Engine {
    /// Takes the HELLO of an endpoint that was registered for it: on a stream, answers it by WELCOME or ERROR; on a
    /// datagram transport, the answer is the driver's to send. The credentials are the driver's to check before.
    pub fn handle_hello(
        &mut self,
        now: Now,
        id: EndpointId,
        hello: &Hello<'_>,
        terms: Terms,
    ) -> Result<Welcome, Violation> {
        let named = |violation| Violation { reference: hello.nonce, ..violation };
        let greeted = self.greet(now, id, hello, terms).map_err(named);
        let is_stream = self.registry.get(id).is_some_and(|endpoint| !endpoint.transport.is_datagram());
        match &greeted {
            Err(violation) if is_stream => {
                self.handle_violation(now, id, violation);
                let outbox = self.registry.get(id).and_then(|endpoint| endpoint.outbox.as_deref());
                if outbox.is_some_and(|outbox| outbox.pending_control() >= MAX_CONTROL) {
                    // It asks again and again, and does not listen to the answers.
                    self.leave(now, id, Reason::Protocol);
                }
            }
            _ => {}
        }
        greeted
    }

    fn greet(&mut self, now: Now, id: EndpointId, hello: &Hello<'_>, terms: Terms) -> Result<Welcome, Violation> {
        let wrong = |code, text| Err(refusal(code, kind::HELLO, text));
        let next = self.log.next();
        let Some(endpoint) = self.registry.get(id) else { return wrong(Code::Unexpected, "it has left") };
        if !matches!(endpoint.protocol, Protocol::AwaitingHello) || endpoint.leaving.is_some() {
            return wrong(Code::Unexpected, "it was welcomed already");
        }
        let is_new = hello.resume.is_none();
        if is_new && hello.since.is_some() && !terms.history {
            return wrong(Code::NotPermitted, "this listener has no history");
        }
        let user = user_of(endpoint.peer);
        let mut filters = (is_new && !hello.filters.is_empty()).then(Filters::default);
        if filters.as_mut().is_some_and(|filters| !filters.add(hello.filters.iter().copied())) {
            return wrong(Code::Limit, "too many filters");
        }
        // Where it was when it came: nothing has been due to it since.
        let place = endpoint.until;
        let (transport, own) = (endpoint.transport, endpoint.number);
        let session = match &hello.resume {
            Some(resume) => {
                // First of all whose it is: after a restart of ours, what was seen before may be anything.
                let start = self.claimed(resume, user).map(|session| session.start);
                if start.is_some_and(|start| !(start - 1..next).contains(&resume.last)) {
                    return wrong(Code::Malformed, "what it claims to have seen was never due to it");
                }
                match self.claim(now, resume, user) {
                    Some(session) => session,
                    None => return wrong(Code::UnknownSession, "there is no such session (any more)"),
                }
            }
            None => Session {
                number: own,
                secret: [self.entropy.next().to_be_bytes(), self.entropy.next().to_be_bytes()]
                    .concat()
                    .try_into()
                    .unwrap_or_default(),
                user,
                name: hello.name.into(),
                role: hello.role,
                filters: filters.map(Rc::new),
                ..Session::default()
            },
        };
        // From here on nothing can go wrong.
        let oldest = self.log.ring(Rendition::Frames).oldest();
        let receives = terms.receives && session.role != Role::SendOnly;
        let goes_on = hello.resume.is_some() && (session.receives || !receives);
        let wanted = match (&hello.resume, hello.since) {
            (Some(resume), _) if goes_on => resume.last + 1,
            // Nothing was due to it meanwhile: it is a newcomer, and does not get what was said before.
            (Some(_), _) => place,
            (None, Some(0)) => oldest,
            (None, Some(since)) => since.min(next),
            (None, None) => place,
        };
        let start = wanted.max(oldest).max(session.filters_known_from);
        let session = match goes_on {
            true => Session { receives, ..session },
            false => Session { start: wanted, since: wanted, earlier: Vec::new(), receives, ..session },
        };
        let key = if transport.is_datagram() { self.entropy.next().max(1) } else { 0 };
        let welcome = Welcome {
            version: VERSION,
            resumed: hello.resume.is_some(),
            lease: if key == 0 { 0 } else { self.settings.lease.as_millis().try_into().unwrap_or(u32::MAX) },
            id: session.number,
            secret: session.secret,
            key,
            log: self.log.id(),
            start: wanted,
            next,
            nonce: hello.nonce,
            last_message: session.messages.last(),
            max_message: self.settings.max_message.try_into().unwrap_or(u32::MAX),
        };
        let acknowledged = (key != 0).then(|| Box::new(Acknowledged::new(welcome, self.entropy.next())));
        let (number, filters) = (session.number, session.filters.clone());
        let sends = terms.sends && session.role != Role::ReceiveOnly;
        let session = Session { may_skip_requests: hello.resume.is_some(), ..session };
        let max_sessions = terms.max_sessions;
        let native =
            Native { session, prev: start - 1, sends, max_sessions, ended: false, answers_unread: false, acknowledged };
        self.sessions.enter(number, id);
        if key != 0 {
            self.keys.insert(key, id);
        }
        self.registry.renumber(id, number);
        self.registry.set_protocol(id, Protocol::Native, Some(Box::new(native)));
        self.tidy_detection();
        self.registry.receive(id, receives, filters);
        if let Some(endpoint) = self.registry.get_mut(id) {
            // A send only endpoint becomes ready for what it is told, too.
            (endpoint.cursor, endpoint.until) = (Cursor::at(start), if receives { u64::MAX } else { start });
            if endpoint.delivery != Delivery::Ready {
                self.ready.push(id);
            }
            endpoint.delivery = Delivery::Ready;
        }
        if key == 0 {
            self.control(id, &Frame::Welcome(welcome));
        }
        if receives && wanted < start {
            self.counters.gaps += 1;
            self.announce_gap(id, Gap { first: wanted, last: start - 1, reason: GapReason::Evicted });
        }
        if start < next {
            self.catch_up(now, id);
        }
        Ok(welcome)
    }

    pub(crate) fn announce_gap(&mut self, id: EndpointId, gap: Gap) {
        match self.registry.get_mut(id).and_then(|endpoint| endpoint.acknowledged_mut()) {
            Some(acknowledged) => acknowledged.announce(gap),
            None => self.control(id, &Frame::Gap(gap)),
        }
    }

    /// Tells a native endpoint something, at the next boundary of a record.
    pub(crate) fn control(&mut self, id: EndpointId, frame: &Frame<'_>) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        if endpoint.delivery == Delivery::WriteClosed {
            return;
        }
        let is_datagram = endpoint.transport.is_datagram();
        let outbox = endpoint.outbox.get_or_insert_default();
        // Over datagrams the client asks again.
        if !is_datagram || outbox.pending_control() < MAX_CONTROL {
            outbox.control(frame);
        }
        if is_datagram && endpoint.delivery == Delivery::Blocked {
            // Answers need no room in the window, and must not wait for it: they are what tells that we are there.
            self.resume_sending(id);
        }
        self.make_ready(id);
    }

    /// Answers a frame that is wrong; where it has to, ends the stream behind it.
    pub fn handle_violation(&mut self, now: Now, id: EndpointId, violation: &Violation) {
        let Violation { code, about, reference, text } = *violation;
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let is_datagram = endpoint.transport.is_datagram();
        // What could be an answer is not answered, lest two talk to each other for ever; nor is any flood.
        let is_answer = matches!(about, kind::PONG | kind::BYE | kind::WELCOME..=kind::ERROR);
        let is_refusal = matches!(about, kind::SEND | kind::SUBSCRIBE | kind::UNSUBSCRIBE) && !code.is_mistake();
        if let Some(acknowledged) = endpoint.acknowledged_mut()
            && (is_answer || !(is_refusal || acknowledged.may_complain(now.time)))
        {
            return;
        }
        self.counters.violations += 1;
        self.note_frame(id);
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        if let Some(Native { session, .. }) = endpoint.native_mut() {
            // An id is used up by its refusal; what is refused for being ahead uses up none.
            match about {
                kind::SEND if code != Code::Busy => session.messages.refuse(reference, code),
                kind::SUBSCRIBE | kind::UNSUBSCRIBE if reference == u64::from(session.last_request) + 1 => {
                    session.last_request += 1;
                }
                _ => {}
            }
        }
        self.control(id, &Frame::Error(ErrorFrame { code, about, reference, text }));
        if code.is_fatal() && !is_datagram {
            self.leave(now, id, Reason::Protocol);
        }
    }

    /// Takes a frame of a native endpoint, other than its HELLO. Returns what became of it if it was a new input.
    pub fn handle_frame(&mut self, now: Now, id: EndpointId, frame: &Frame<'_>) -> Option<Accepted> {
        let endpoint = self.registry.get_mut(id)?;
        endpoint.last_received = now.time.into();
        let is_datagram = endpoint.transport.is_datagram();
        if endpoint.leaving.is_some() {
            // What is still due to it has to arrive.
            if let Frame::Ack(ack) = frame {
                self.acked(now, id, ack);
            }
            return None;
        }
        if !endpoint.is_native() {
            let wrong = refusal(Code::Unexpected, frame.kind(), "HELLO comes first");
            self.handle_violation(now, id, &Violation { reference: frame.reference(), ..wrong });
            return None;
        }
        match frame {
            Frame::Send(send) => return self.send(now, id, send, is_datagram),
            Frame::Subscribe(filters) => self.subscribe(now, id, filters, true),
            Frame::Unsubscribe(filters) => self.subscribe(now, id, filters, false),
            Frame::Ack(ack) if is_datagram => self.acked(now, id, ack),
            Frame::Ping { nonce, cookie } if is_datagram || cookie.is_none() => {
                self.control(id, &Frame::Pong { nonce: *nonce });
            }
            Frame::Bye(_) => {
                if let Some(native) = endpoint.native_mut() {
                    native.ended = true;
                }
                self.leave(now, id, Reason::Closed);
            }
            Frame::Pong { .. } | Frame::Skippable(_) => {}
            other => {
                let wrong = refusal(Code::Unexpected, other.kind(), "such a frame does not come here");
                self.handle_violation(now, id, &Violation { reference: other.reference(), ..wrong });
            }
        }
        None
    }

    fn send(&mut self, now: Now, id: EndpointId, send: &Send<'_>, is_datagram: bool) -> Option<Accepted> {
        // On a stream, the driver has asked before.
        let held = is_datagram && self.holds(now, id);
        let endpoint = self.registry.get_mut(id)?;
        let (number, receives) = (endpoint.number, endpoint.receives);
        let native = endpoint.native_mut()?;
        let wrong = |code, text| Violation { reference: send.id, ..refusal(code, kind::SEND, text) };
        let mistake = match native.session.messages.status(send.id) {
            MessageStatus::Refused(code) => wrong(code, "this message was refused before"),
            MessageStatus::New if !native.sends => wrong(Code::NotPermitted, "this endpoint may not send"),
            MessageStatus::New if send.payload.len() > self.settings.max_message => {
                wrong(Code::TooLarge, "the payload is too large")
            }
            MessageStatus::New if held => wrong(Code::Busy, "inputs wait for a slow endpoint"),
            MessageStatus::New => {
                endpoint.inputs += 1;
                let origin = Origin(endpoint.transport, endpoint.peer);
                let (sender, topic, data) = (Some((id, number, receives)), send.topic, send.payload);
                let accepted = self.append(now, &Input { sender, origin, topic, data, native: true });
                let native = self.registry.get_mut(id)?.native_mut()?;
                let due = u32::try_from(accepted.others).unwrap_or(u32::MAX);
                let receipt = native.session.messages.accept(accepted.sequence, due);
                if send.receipt {
                    self.control(id, &Frame::Receipt(receipt));
                }
                return Some(accepted);
            }
            MessageStatus::Repeat(receipt) => {
                if send.receipt {
                    self.control(id, &Frame::Receipt(receipt));
                }
                return None;
            }
            MessageStatus::Stale => wrong(Code::Stale, "the receipt of this message is no longer kept"),
            // The ones before it are on their way, or will be sent again, and so will this.
            MessageStatus::Ahead if is_datagram => return None,
            MessageStatus::Ahead => wrong(Code::OutOfOrder, "message ids rise by one"),
        };
        self.handle_violation(now, id, &mistake);
        None
    }

    /// A datagram endpoint is at another address from now on.
    pub fn set_peer(&mut self, id: EndpointId, peer: Peer) {
        self.registry.moved(id, peer);
    }

    /// Whether the listener of a native endpoint takes inputs from now on.
    pub fn set_may_send(&mut self, id: EndpointId, sends: bool) {
        if let Some(native) = self.registry.get_mut(id).and_then(|endpoint| endpoint.native_mut()) {
            native.sends = sends && native.session.role != Role::ReceiveOnly;
        }
    }

    /// Whether the inputs of a datagram endpoint have to wait.
    fn holds(&mut self, now: Now, id: EndpointId) -> bool {
        let others = match self.intake() {
            Intake::Open | Intake::Full => false,
            Intake::Only(only) => only != id,
            Intake::Held => true,
        };
        others || self.park(now, id)
    }

    fn subscribe(&mut self, now: Now, id: EndpointId, change: &FilterFrame<'_>, add: bool) {
        let Some(endpoint) = self.registry.get_mut(id) else { return };
        let (receives, is_datagram) = (endpoint.receives, endpoint.transport.is_datagram());
        let Some(native) = endpoint.native_mut() else { return };
        let about = if add { kind::SUBSCRIBE } else { kind::UNSUBSCRIBE };
        let wrong = |code, text| Violation { reference: change.request.into(), ..refusal(code, about, text) };
        let session = &mut native.session;
        if change.request > session.last_request && std::mem::take(&mut session.may_skip_requests) {
            session.last_request = change.request - 1;
        }
        if u64::from(change.request) > u64::from(session.last_request) + 1 {
            if is_datagram {
                // The one before is on its way, or will be sent again, and so will this.
                return;
            }
            return self.handle_violation(now, id, &wrong(Code::OutOfOrder, "request ids rise by one"));
        }
        if !receives {
            return self.handle_violation(now, id, &wrong(Code::NotPermitted, "this endpoint gets no upcalls"));
        }
        if change.request > session.last_request {
            session.last_request = change.request;
            let before = session.filters.clone();
            let mut filters = before.as_deref().cloned().unwrap_or_default();
            let names = change.filters.iter().copied();
            let fits = match (add, &before) {
                (true, _) => filters.add(names),
                (false, Some(_)) => {
                    filters.remove(names);
                    true
                }
                // It gets everything, and goes on getting it.
                (false, None) => true,
            };
            if !fits {
                return self.handle_violation(now, id, &wrong(Code::Limit, "too many filters"));
            }
            if (add || before.is_some()) && before.as_deref() != Some(&filters) {
                self.change_filters(id, filters);
            }
        }
        let Some(session) = self.registry.get(id).and_then(|endpoint| Some(&endpoint.native()?.session)) else {
            return;
        };
        let (from, in_force) = (session.since, session.filters.clone());
        let filters = in_force.as_deref().map(|filters| filters.iter().collect()).unwrap_or_default();
        let (request, everything) = (change.request, in_force.is_none());
        self.control(id, &Frame::Subscribed { request, from, everything, filters });
    }

    /// An endpoint goes by other filters, from what it has not begun to get.
    fn change_filters(&mut self, id: EndpointId, filters: Filters) {
        self.make_ready(id);
        let oldest = self.log.ring(Rendition::Frames).oldest();
        if let Some(endpoint) = self.registry.get_mut(id) {
            let from = endpoint.first_unsent();
            if let Some(native) = endpoint.native_mut() {
                native.session.change_filters(from, oldest);
            }
        }
        self.registry.receive(id, true, Some(Rc::new(filters)));
    }

    /// The filters of a native endpoint, and from which sequence on they are in force; none means everything. For tests.
    #[doc(hidden)]
    pub fn filters_in_force(&self, id: EndpointId) -> Option<(u64, Option<Vec<&str>>)> {
        let session = &self.registry.get(id)?.native()?.session;
        Some((session.since, session.filters.as_deref().map(|filters| filters.iter().collect())))
    }
}

#[cfg(test)]
mod tests;
