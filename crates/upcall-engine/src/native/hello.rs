//! HELLO: whether it is accepted, which session it opens or resumes, and what the endpoint may do afterwards.

use std::rc::Rc;

use upcall_wire::address::Peer;
use upcall_wire::frame::{Code, Frame, Gap, GapReason, Hello, Role, VERSION, Violation, Welcome, kind};
use upcall_wire::reason::Reason;

use super::violation;
use crate::delivery::acknowledged::Acknowledged;
use crate::delivery::outbox::MAX_CONTROL;
use crate::id::EndpointId;
use crate::log::Rendition;
use crate::log::filters::FilterSet;
use crate::log::reading::Cursor;
use crate::registry::endpoint::{Delivery, DetectedProtocol, Native};
use crate::session::{Session, user_of};
use crate::{Engine, Now};

/// What a listener allows its native endpoints.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// They may send inputs.
    pub sends: bool,
    /// Upcalls are due to them.
    pub receives: bool,
    /// They may request inputs from before their registration.
    pub history: bool,
    /// The most detached sessions that are kept for one address (IPv4), /64 network (IPv6) or user (Unix).
    pub max_sessions: Option<usize>,
}

/// The endpoint of a HELLO that may be accepted.
struct Candidate {
    /// The next sequence when it was registered. Nothing has been due to it since then.
    place: u64,
    /// The number that it has if it does not resume a session.
    number: u64,
    peer: Peer,
    is_datagram: bool,
    filters: Option<FilterSet>,
}

impl Engine {
    /// Handles the HELLO of an endpoint. On a stream, answers it with WELCOME or ERROR; over datagrams, the driver
    /// sends the answer. The driver has checked the credentials before.
    ///
    /// # Errors
    /// The content of the ERROR.
    pub fn handle_hello(
        &mut self,
        now: Now,
        id: EndpointId,
        hello: &Hello<'_>,
        terms: Terms,
    ) -> Result<Welcome, Violation> {
        let answer = self.accept_hello(now, id, hello, terms);
        let answer = answer.map_err(|violation| Violation { reference: hello.nonce, ..violation });
        if let Err(violation) = &answer
            && self.registry.get(id).is_some_and(|endpoint| !endpoint.transport.is_datagram())
        {
            self.handle_violation(now, id, violation);
            let outbox = self.registry.get(id).and_then(|endpoint| endpoint.outbox.as_deref());
            if outbox.is_some_and(|outbox| outbox.pending_control() >= MAX_CONTROL) {
                // It sends requests again and again, and does not read the answers.
                self.leave(now, id, Reason::Protocol);
            }
        }
        answer
    }

    fn accept_hello(
        &mut self,
        now: Now,
        id: EndpointId,
        hello: &Hello<'_>,
        terms: Terms,
    ) -> Result<Welcome, Violation> {
        let candidate = self.judge_hello(id, hello, terms)?;
        let session = self.claim_session(now, hello, &candidate)?;
        Ok(self.install(now, id, hello, terms, &candidate, session))
    }

    /// Decides whether a HELLO may be accepted, apart from the session that it resumes. Changes nothing.
    fn judge_hello(&self, id: EndpointId, hello: &Hello<'_>, terms: Terms) -> Result<Candidate, Violation> {
        let refuse = |code, text| Err(violation(code, kind::HELLO, text));
        let Some(endpoint) = self.registry.get(id) else { return refuse(Code::Unexpected, "it has left") };
        if !endpoint.awaits_hello() || endpoint.leaving.is_some() {
            return refuse(Code::Unexpected, "its HELLO has already been accepted");
        }
        let is_new = hello.resume.is_none();
        if is_new && hello.since.is_some() && !terms.history {
            return refuse(Code::NotPermitted, "this listener has no history");
        }
        let mut filters = (is_new && !hello.filters.is_empty()).then(FilterSet::default);
        if filters.as_mut().is_some_and(|filters| !filters.add(hello.filters.iter().copied())) {
            return refuse(Code::Limit, "too many filters");
        }
        Ok(Candidate {
            place: endpoint.until,
            number: endpoint.number,
            peer: endpoint.peer,
            is_datagram: endpoint.transport.is_datagram(),
            filters,
        })
    }

    /// The session that a HELLO resumes, taken from its endpoint or from the detached ones, or a new session.
    fn claim_session(&mut self, now: Now, hello: &Hello<'_>, candidate: &Candidate) -> Result<Session, Violation> {
        let refuse = |code, text| Err(violation(code, kind::HELLO, text));
        let user = user_of(candidate.peer);
        let Some(resume) = &hello.resume else {
            return Ok(Session {
                number: candidate.number,
                secret: [self.entropy.next().to_be_bytes(), self.entropy.next().to_be_bytes()]
                    .concat()
                    .try_into()
                    .unwrap_or_default(),
                user,
                name: hello.name.into(),
                role: hello.role,
                filters: candidate.filters.clone().map(Rc::new),
                ..Session::default()
            });
        };
        // Ownership is checked first: after a restart of the daemon, `resume.last` is a sequence of another log.
        let start = self.resumable_session(resume, user).map(|session| session.start);
        if start.is_some_and(|start| !(start - 1..self.log.next()).contains(&resume.last)) {
            return refuse(Code::Malformed, "the last sequence that it names was never due to its session");
        }
        match self.take_session(now, resume, user) {
            Some(session) => Ok(session),
            None => refuse(Code::UnknownSession, "the session does not exist, or no longer exists"),
        }
    }

    /// Makes the endpoint a native one that has this session, and welcomes it.
    fn install(
        &mut self,
        now: Now,
        id: EndpointId,
        hello: &Hello<'_>,
        terms: Terms,
        candidate: &Candidate,
        session: Session,
    ) -> Welcome {
        let (next, oldest) = (self.log.next(), self.log.ring(Rendition::Frames).oldest());
        let receives = terms.receives && session.role != Role::SendOnly;
        let continues = hello.resume.is_some() && (session.receives || !receives);
        let wanted = match (&hello.resume, hello.since) {
            (Some(resume), _) if continues => resume.last + 1,
            // Nothing was due to its session in the meantime, so it starts like a new one, without earlier inputs.
            (Some(_), _) => candidate.place,
            (None, Some(0)) => oldest,
            (None, Some(since)) => since.min(next),
            (None, None) => candidate.place,
        };
        let start = wanted.max(oldest).max(session.filters_known_from);
        let mut session = Session { receives, may_skip_requests: hello.resume.is_some(), ..session };
        if !continues {
            session = Session { start: wanted, filters_since: wanted, earlier: Vec::new(), ..session };
        }
        // A key is never 0, which means no key.
        let key = candidate.is_datagram.then(|| self.entropy.next().max(1));
        let lease = self.settings.lease.as_millis().try_into().unwrap_or(u32::MAX);
        let welcome = Welcome {
            version: VERSION,
            resumed: hello.resume.is_some(),
            lease: if candidate.is_datagram { lease } else { 0 },
            id: session.number,
            secret: session.secret,
            key: key.unwrap_or(0),
            log: self.log.id(),
            start: wanted,
            next,
            nonce: hello.nonce,
            last_message: session.messages.last(),
            max_message: self.settings.max_message.try_into().unwrap_or(u32::MAX),
        };
        let acknowledged = key.map(|_| Box::new(Acknowledged::new(welcome, self.entropy.next())));
        let (number, filters) = (session.number, session.filters.clone());
        let native = Native {
            prev: start - 1,
            sends: terms.sends && session.role != Role::ReceiveOnly,
            session,
            max_sessions: terms.max_sessions,
            ended: false,
            answers_unread: false,
            acknowledged,
        };
        self.sessions.bind(number, id);
        if let Some(key) = key {
            self.registry.set_key(key, id);
        }
        self.registry.renumber(id, number);
        self.registry.set_protocol(id, DetectedProtocol::Native, Some(Box::new(native)));
        self.tidy_detection();
        self.registry.set_receives(id, receives, filters);
        if let Some(endpoint) = self.registry.get_mut(id) {
            // An endpoint that only sends becomes ready, too, for its answers.
            (endpoint.cursor, endpoint.until) = (Cursor::at(start), if receives { u64::MAX } else { start });
            if endpoint.delivery != Delivery::Ready {
                self.ready.push(id);
            }
            endpoint.delivery = Delivery::Ready;
        }
        if !candidate.is_datagram {
            self.send_control(id, &Frame::Welcome(welcome));
        }
        if receives && wanted < start {
            self.counters.gaps += 1;
            self.announce_gap(id, Gap { first: wanted, last: start - 1, reason: GapReason::Evicted });
        }
        if start < next {
            self.catch_up(now, id);
        }
        welcome
    }
}
