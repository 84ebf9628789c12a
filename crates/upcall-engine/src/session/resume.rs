//! Which client may resume a session, and what happens to the connection that the session had.

use upcall_wire::address::Peer;
use upcall_wire::frame::Resume;
use upcall_wire::reason::Reason;

use super::Session;
use crate::id::EndpointId;
use crate::{Engine, Now};

/// The user that a session belongs to if it begins at this peer.
pub(crate) fn user_of(peer: Peer) -> Option<u32> {
    match peer {
        Peer::Unix(credentials) => Some(credentials.uid),
        Peer::Inet(_) => None,
    }
}

impl Engine {
    /// The endpoint that a client will replace if it resumes this session from `peer`: the session must belong to it,
    /// and have a connection.
    pub fn superseded_by(&self, resume: &Resume, peer: Peer) -> Option<EndpointId> {
        self.resumable_session(resume, user_of(peer))?;
        let old = self.sessions.endpoint(resume.id)?;
        self.registry.staying(old).map(|_| old)
    }

    /// The session that a client wants to resume, if it belongs to that client and was not ended.
    pub(crate) fn resumable_session(&self, resume: &Resume, user: Option<u32>) -> Option<&Session> {
        let native = self.sessions.endpoint(resume.id).and_then(|old| self.registry.get(old)?.native());
        let live = native.filter(|native| !native.ended).map(|native| &native.session);
        live.or_else(|| self.sessions.detached(resume.id)).filter(|session| session.belongs_to(resume, user))
    }

    /// Takes the session that a client wants to resume. An endpoint that has it leaves.
    pub(crate) fn take_session(&mut self, now: Now, resume: &Resume, user: Option<u32>) -> Option<Session> {
        self.resumable_session(resume, user)?;
        if let Some(old) = self.sessions.endpoint(resume.id) {
            self.leave(now, old, Reason::Superseded);
            self.sessions.unbind(resume.id, old);
            // If nothing could be written to it any more, it is already removed, and its session is detached.
            if let Some(endpoint) = self.registry.get_mut(old) {
                let until = endpoint.until.max(endpoint.first_unsent());
                let native = endpoint.native_mut()?;
                native.session.sent = native.session.sent.max(until);
                let session = std::mem::take(&mut native.session);
                // The old connection still receives what was due to it.
                native.session.filters.clone_from(&session.filters);
                native.session.earlier.clone_from(&session.earlier);
                return Some(session);
            }
        }
        self.sessions.take_detached(resume, user)
    }
}
