//! Who may go on with a session, and what becomes of the connection that it had.

use crate::id::EndpointId;
use crate::session::Session;
use crate::{Engine, Now};
use upcall_wire::address::Peer;
use upcall_wire::frame::Resume;
use upcall_wire::reason::Reason;

/// To whom a session belongs that begins there.
pub(crate) fn user_of(peer: Peer) -> Option<u32> {
    match peer {
        Peer::Unix(credentials) => Some(credentials.uid),
        Peer::Inet(_) => None,
    }
}

impl Engine {
    /// The endpoint whose place will be taken by whoever resumes this session from there, if it is theirs and has one.
    pub fn superseded_by(&self, resume: &Resume, peer: Peer) -> Option<EndpointId> {
        self.claimed(resume, user_of(peer))?;
        let old = self.sessions.endpoint(resume.id)?;
        self.registry.get(old).filter(|endpoint| endpoint.leaving.is_none()).map(|_| old)
    }

    /// The session that somebody claims, if it is that one's.
    pub(crate) fn claimed(&self, resume: &Resume, user: Option<u32>) -> Option<&Session> {
        let native = self.sessions.endpoint(resume.id).and_then(|old| self.registry.get(old)?.native());
        let live = native.filter(|native| !native.ended).map(|native| &native.session);
        live.or_else(|| self.sessions.detached(resume.id)).filter(|session| session.is_claimed_by(resume, user))
    }

    /// The same, to be taken over: an endpoint that has it leaves.
    pub(crate) fn claim(&mut self, now: Now, resume: &Resume, user: Option<u32>) -> Option<Session> {
        if let Some(old) = self.sessions.endpoint(resume.id) {
            let native = self.registry.get(old).and_then(|endpoint| endpoint.native());
            if !native.is_some_and(|native| native.session.is_claimed_by(resume, user) && !native.ended) {
                return None;
            }
            self.leave(now, old, Reason::Superseded);
            self.sessions.leave(resume.id, old);
            if let Some(endpoint) = self.registry.get_mut(old) {
                let until = endpoint.until.max(endpoint.first_unsent());
                let native = endpoint.native_mut()?;
                native.session.sent = native.session.sent.max(until);
                let session = std::mem::take(&mut native.session);
                // What is still due to the old connection is what was.
                native.session.filters.clone_from(&session.filters);
                native.session.earlier.clone_from(&session.earlier);
                return Some(session);
            }
        }
        self.sessions.claim(resume, user)
    }
}
