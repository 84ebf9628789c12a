//! Sessions: what outlives a connection, so that a native client can resume where it was.
//!
//! This module knows endpoints only by their ids. It decides which client may resume. Only `resume` touches the
//! connection that a session had before.

mod messages;
mod resume;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::rc::Rc;

use upcall_wire::frame::{Resume, Role};

use crate::id::{EndpointId, LimitSource, ListenerNumber};
use crate::log::filters::{EarlierFilters, FilterSet};
use crate::time::Time;

pub(crate) use messages::{MessageStatus, Messages};
pub(crate) use resume::user_of;

/// How many changes of its filters a session remembers.
const EARLIER: usize = 16;

/// The session of one client.
#[derive(Default)]
pub(crate) struct Session {
    /// The number of its endpoint, whichever connection it has.
    pub(crate) number: u64,
    pub(crate) secret: [u8; 16],
    /// The first sequence that could be due to it. It cannot request earlier ones.
    pub(crate) start: u64,
    /// Whether upcalls were due to it at its last listener.
    pub(crate) receives: bool,
    /// The user that it belongs to, if it began on a Unix socket.
    pub(crate) user: Option<u32>,
    pub(crate) name: Box<str>,
    pub(crate) role: Role,
    /// `None`: it never had any, and receives everything.
    pub(crate) filters: Option<Rc<FilterSet>>,
    /// The first sequence for which they are in force.
    pub(crate) filters_since: u64,
    /// The filters that were in force before, each up to a sequence. A client that resumes further back receives what
    /// was due then.
    pub(crate) earlier: Vec<EarlierFilters>,
    /// The filters of sequences before this one are forgotten: there is no way left to decide what was due then.
    pub(crate) filters_known_from: u64,
    /// Everything before this sequence may have been sent over an earlier connection.
    pub(crate) sent: u64,
    /// The number of the last SUBSCRIBE or UNSUBSCRIBE.
    pub(crate) last_request: u32,
    /// Its next request may skip numbers: the session was resumed, and a program that resumes does not know which of
    /// its last requests arrived.
    pub(crate) may_skip_requests: bool,
    pub(crate) messages: Messages,
}

impl Session {
    /// The filters that are in force for a sequence, and the first sequence for which they no longer are.
    pub(crate) fn filters_at(&self, sequence: u64) -> (Option<Rc<FilterSet>>, u64) {
        match self.earlier.iter().find(|earlier| sequence < earlier.until) {
            Some(earlier) => (earlier.filters.clone(), earlier.until),
            None => (self.filters.clone(), u64::MAX),
        }
    }

    /// The filters change from sequence `from` on, but not for what may have been sent over an earlier connection.
    /// `oldest` is the first sequence that a client can still request.
    pub(crate) fn change_filters(&mut self, from: u64, oldest: u64) {
        let from = from.max(self.sent);
        if from > self.filters_since {
            self.earlier.push(EarlierFilters { until: from, filters: self.filters.clone() });
            self.filters_since = from;
        }
        let gone = self.earlier.iter().take_while(|earlier| earlier.until <= oldest).count();
        let gone = gone.max(self.earlier.len().saturating_sub(EARLIER));
        if let Some(last) = self.earlier.drain(..gone).next_back() {
            self.filters_known_from = last.until;
        }
    }

    /// Whether the client that wants to resume it knows its secret, and is the user that it belongs to.
    fn belongs_to(&self, resume: &Resume, user: Option<u32>) -> bool {
        // Compares every byte, so that the time does not reveal where they differ.
        let difference = self.secret.iter().zip(&resume.secret).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(difference) == 0 && self.user == user
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Omits the secret, which must not reach a log.
        f.debug_struct("Session").field("number", &self.number).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A session without a connection.
#[derive(Debug)]
struct Detached {
    session: Session,
    /// When it is forgotten.
    until: Time,
    /// Where its last connection came from.
    from: (ListenerNumber, LimitSource),
}

/// How many detached sessions may be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DetachedLimits {
    /// In total.
    pub(crate) all: usize,
    /// From the source of the one that is being detached.
    pub(crate) per_source: usize,
}

/// All sessions: those that have a connection, and those that can be resumed.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    live: HashMap<u64, EndpointId>,
    detached: HashMap<u64, Detached>,
    expiry: BTreeSet<(Time, u64)>,
    /// The same, by source.
    by_source: HashMap<(ListenerNumber, LimitSource), BTreeSet<(Time, u64)>>,
}

impl Sessions {
    /// A session has an endpoint from now on.
    pub(crate) fn bind(&mut self, number: u64, id: EndpointId) {
        self.live.insert(number, id);
    }

    /// The endpoint that a session has.
    pub(crate) fn endpoint(&self, number: u64) -> Option<EndpointId> {
        self.live.get(&number).copied()
    }

    /// An endpoint gives up a session. Returns whether it still had the session.
    pub(crate) fn unbind(&mut self, number: u64, id: EndpointId) -> bool {
        let is_its = self.live.get(&number) == Some(&id);
        if is_its {
            self.live.remove(&number);
        }
        is_its
    }

    /// Keeps a session without a connection until `until`. If there is no room, others are forgotten first: the oldest
    /// of the same source if that has too many, or more than its share of all; otherwise the oldest of all.
    pub(crate) fn detach(
        &mut self,
        until: Time,
        session: Session,
        from: (ListenerNumber, LimitSource),
        limits: DetachedLimits,
    ) {
        while let Some(number) = self.first_to_forget(from, limits) {
            self.forget(number);
        }
        let number = session.number;
        self.detached.insert(number, Detached { session, until, from });
        self.expiry.insert((until, number));
        self.by_source.entry(from).or_default().insert((until, number));
    }

    /// The session that must be forgotten before one more from this source is detached.
    fn first_to_forget(&self, from: (ListenerNumber, LimitSource), limits: DetachedLimits) -> Option<u64> {
        let own = self.by_source.get(&from);
        let count = own.map_or(0, BTreeSet::len);
        let is_full = self.detached.len() >= limits.all.max(1);
        let has_its_share = count * self.by_source.len() >= limits.all;
        let oldest = match () {
            () if count >= limits.per_source.max(1) || (is_full && has_its_share) => own?.first(),
            () if is_full => self.expiry.first(),
            () => None,
        };
        oldest.map(|(_, number)| *number)
    }

    fn forget(&mut self, number: u64) -> Option<Session> {
        let Detached { session, until, from } = self.detached.remove(&number)?;
        self.expiry.remove(&(until, number));
        if let Some(own) = self.by_source.get_mut(&from) {
            own.remove(&(until, number));
            if own.is_empty() {
                self.by_source.remove(&from);
            }
        }
        Some(session)
    }

    /// The detached session with this number.
    fn detached(&self, number: u64) -> Option<&Session> {
        self.detached.get(&number).map(|detached| &detached.session)
    }

    /// Removes the detached session that a client wants to resume, if it belongs to that client.
    fn take_detached(&mut self, resume: &Resume, user: Option<u32>) -> Option<Session> {
        self.detached(resume.id).filter(|session| session.belongs_to(resume, user))?;
        self.forget(resume.id)
    }

    /// Forgets the sessions that were not resumed in time.
    pub(crate) fn expire(&mut self, now: Time) {
        while let Some((until, number)) = self.expiry.first().copied()
            && until <= now
        {
            self.forget(number);
        }
    }

    /// When the next session is forgotten.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.expiry.first().map(|(until, _)| *until)
    }

    /// How many sessions can be resumed.
    pub(crate) fn detached_count(&self) -> usize {
        self.detached.len()
    }
}

#[cfg(test)]
mod tests;
