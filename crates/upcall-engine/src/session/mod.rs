//! Sessions: what outlives a connection, so that a native client can go on where it was.

pub(crate) mod resume;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;

use crate::id::{EndpointId, ListenerNumber, PeerSource};
use crate::log::filters::{EarlierFilters, Filters};
use crate::time::Time;
use upcall_wire::frame::{Code, Receipt, Resume, Role};

/// How many changes of its filters a session remembers.
const EARLIER: usize = 16;

/// How many receipts a session keeps, for messages that are repeated.
const RECEIPTS: usize = 64;

/// One client's session.
#[derive(Default)]
pub(crate) struct Session {
    /// The number of its endpoint, whichever connection it has.
    pub(crate) number: u64,
    pub(crate) secret: [u8; 16],
    /// The first sequence that could be due to it: what was said before is not for it to ask for.
    pub(crate) start: u64,
    /// Upcalls were due to it where it was last.
    pub(crate) receives: bool,
    /// The user it belongs to, if it began on a Unix socket.
    pub(crate) user: Option<u32>,
    pub(crate) name: Box<str>,
    pub(crate) role: Role,
    /// None: it never gave any, and gets everything.
    pub(crate) filters: Option<Rc<Filters>>,
    /// The first sequence for which they are in force.
    pub(crate) since: u64,
    /// Those that were in force before, each up to a sequence: whoever resumes further back gets what was due then.
    pub(crate) earlier: Vec<EarlierFilters>,
    /// What came before this sequence cannot be judged any more: nobody remembers the filters of then.
    pub(crate) filters_known_from: u64,
    /// What came before this sequence may have been sent over an earlier connection.
    pub(crate) sent: u64,
    /// The number of the last SUBSCRIBE or UNSUBSCRIBE.
    pub(crate) last_request: u32,
    /// It was resumed: a program that goes on with it does not know which of the last requests came to be taken.
    pub(crate) may_skip_requests: bool,
    pub(crate) messages: Messages,
}

/// The messages of a session, by their ids: which are new, and what became of the last that were not.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    last: u64,
    /// What became of the last ones.
    outcomes: VecDeque<MessageOutcome>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy)]
enum MessageOutcome {
    Accepted { sequence: u64, due: u32 },
    Refused(Code),
}

/// What a message id says of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MessageStatus {
    New,
    Repeat(Receipt),
    /// It was refused for this.
    Refused(Code),
    /// It was accepted once, and its receipt is no longer kept.
    Stale,
    /// Others are missing before it.
    Ahead,
}

impl Messages {
    /// The id of the last message; 0 before the first.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn status(&self, id: u64) -> MessageStatus {
        match self.last.checked_sub(id) {
            None if id == self.last + 1 => MessageStatus::New,
            None => MessageStatus::Ahead,
            Some(age) => {
                let index =
                    usize::try_from(age).ok().and_then(|age| self.outcomes.len().checked_sub(age.checked_add(1)?));
                match index.and_then(|index| self.outcomes.get(index).copied()) {
                    Some(MessageOutcome::Accepted { sequence, due }) => {
                        MessageStatus::Repeat(Receipt { id, sequence, due, repeat: true })
                    }
                    Some(MessageOutcome::Refused(code)) => MessageStatus::Refused(code),
                    None => MessageStatus::Stale,
                }
            }
        }
    }

    /// Takes note of the next message, and what became of it.
    pub(crate) fn accept(&mut self, sequence: u64, due: u32) -> Receipt {
        self.record(MessageOutcome::Accepted { sequence, due });
        Receipt { id: self.last, sequence, due, repeat: false }
    }

    /// Takes note of the next `count` messages, whose sequences count up from `first`.
    pub(crate) fn accept_run(&mut self, first: u64, count: u64, due: u32) {
        let kept = count.min(RECEIPTS as u64);
        let forgotten = (self.outcomes.len() + kept as usize).saturating_sub(RECEIPTS);
        self.outcomes.drain(..forgotten);
        let sequences = first + count - kept..first + count;
        self.outcomes.extend(sequences.map(|sequence| MessageOutcome::Accepted { sequence, due }));
        self.last += count;
    }

    /// A message is refused for good: its id is used up all the same, so that those behind it are not held up.
    pub(crate) fn refuse(&mut self, id: u64, code: Code) {
        if self.status(id) == MessageStatus::New {
            self.record(MessageOutcome::Refused(code));
        }
    }

    fn record(&mut self, outcome: MessageOutcome) {
        self.last += 1;
        if self.outcomes.len() == RECEIPTS {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back(outcome);
    }
}

/// A session without an endpoint: until when it may be resumed, and where it came from.
#[derive(Debug)]
struct Detached {
    session: Session,
    until: Time,
    from: (ListenerNumber, PeerSource),
}

/// How many sessions may be kept without an endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DetachedLimits {
    /// In all.
    pub(crate) all: usize,
    /// From where this one comes from.
    pub(crate) per_source: usize,
}

/// All sessions: those that have an endpoint, and those that may be resumed.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    live: HashMap<u64, EndpointId>,
    parked: HashMap<u64, Detached>,
    expiry: BTreeSet<(Time, u64)>,
    /// The same by where they come from.
    by_source: HashMap<(ListenerNumber, PeerSource), BTreeSet<(Time, u64)>>,
}

impl Sessions {
    /// A session has an endpoint from now on.
    pub(crate) fn enter(&mut self, number: u64, id: EndpointId) {
        self.live.insert(number, id);
    }

    /// The endpoint that a session has.
    pub(crate) fn endpoint(&self, number: u64) -> Option<EndpointId> {
        self.live.get(&number).copied()
    }

    /// An endpoint is gone; says whether it was that of the session still.
    pub(crate) fn leave(&mut self, number: u64, id: EndpointId) -> bool {
        let is_its = self.live.get(&number) == Some(&id);
        if is_its {
            self.live.remove(&number);
        }
        is_its
    }

    /// Keeps a session without an endpoint until then, as far as there is room: the oldest of the same source go first where it
    /// has too many, or more than its share of all; else the oldest of all.
    pub(crate) fn detach(
        &mut self,
        until: Time,
        session: Session,
        from: (ListenerNumber, PeerSource),
        room: DetachedLimits,
    ) {
        while let Some(number) = self.makes_room(from, room) {
            self.forget(number);
        }
        let number = session.number;
        self.parked.insert(number, Detached { session, until, from });
        self.expiry.insert((until, number));
        self.by_source.entry(from).or_default().insert((until, number));
    }

    /// Which session has to go before one more comes from there.
    fn makes_room(&self, from: (ListenerNumber, PeerSource), room: DetachedLimits) -> Option<u64> {
        let own = self.by_source.get(&from);
        let count = own.map_or(0, BTreeSet::len);
        let is_full = self.parked.len() >= room.all.max(1);
        let has_its_share = count * self.by_source.len() >= room.all;
        let oldest = match () {
            () if count >= room.per_source.max(1) || (is_full && has_its_share) => own?.first(),
            () if is_full => self.expiry.first(),
            () => None,
        };
        oldest.map(|(_, number)| *number)
    }

    fn forget(&mut self, number: u64) -> Option<Session> {
        let Detached { session, until, from } = self.parked.remove(&number)?;
        self.expiry.remove(&(until, number));
        if let Some(own) = self.by_source.get_mut(&from) {
            own.remove(&(until, number));
            if own.is_empty() {
                self.by_source.remove(&from);
            }
        }
        Some(session)
    }

    /// The parked session with this number.
    pub(crate) fn detached(&self, number: u64) -> Option<&Session> {
        self.parked.get(&number).map(|parked| &parked.session)
    }

    /// The parked session that somebody claims, if it is that one's.
    pub(crate) fn claim(&mut self, resume: &Resume, user: Option<u32>) -> Option<Session> {
        self.detached(resume.id).filter(|session| session.is_claimed_by(resume, user))?;
        self.forget(resume.id)
    }

    /// Forgets those that nobody has claimed in time.
    pub(crate) fn expire(&mut self, now: Time) {
        while let Some((until, number)) = self.expiry.first().copied()
            && until <= now
        {
            self.forget(number);
        }
    }

    /// When one is to be forgotten.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.expiry.first().map(|(until, _)| *until)
    }

    /// How many could be resumed.
    pub(crate) fn detached_count(&self) -> usize {
        self.parked.len()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret is for nobody to read.
        f.debug_struct("Session").field("number", &self.number).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Session {
    /// The filters that are in force for a sequence, and up to which one they are.
    pub(crate) fn filters_at(&self, sequence: u64) -> (Option<Rc<Filters>>, u64) {
        match self.earlier.iter().find(|earlier| sequence < earlier.until) {
            Some(earlier) => (earlier.filters.clone(), earlier.until),
            None => (self.filters.clone(), u64::MAX),
        }
    }

    /// Other filters are in force from `from` on, or from what was not judged before, on any of its connections; `oldest` is
    /// the first sequence that anybody can still ask for.
    pub(crate) fn change_filters(&mut self, from: u64, oldest: u64) {
        let from = from.max(self.sent);
        if from > self.since {
            self.earlier.push(EarlierFilters { until: from, filters: self.filters.clone() });
            self.since = from;
        }
        let gone = self.earlier.iter().take_while(|earlier| earlier.until <= oldest).count();
        let gone = gone.max(self.earlier.len().saturating_sub(EARLIER));
        if let Some(last) = self.earlier.drain(..gone).next_back() {
            self.filters_known_from = last.until;
        }
    }

    /// Whether whoever claims it knows its secret, and is the user it belongs to.
    pub(crate) fn is_claimed_by(&self, resume: &Resume, user: Option<u32>) -> bool {
        // Every byte is looked at, so that the time tells nothing of where they differ.
        let difference = self.secret.iter().zip(&resume.secret).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(difference) == 0 && self.user == user
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resume(id: u64, byte: u8) -> Resume {
        Resume { id, secret: [byte; 16], last: 0 }
    }

    fn from(user: u32) -> (ListenerNumber, PeerSource) {
        (1, PeerSource::User(user))
    }

    fn room(all: usize, per_source: usize) -> DetachedLimits {
        DetachedLimits { all, per_source }
    }

    fn session(number: u64) -> Session {
        Session { number, secret: [number as u8; 16], user: Some(7), ..Session::default() }
    }

    #[test]
    fn a_message_is_new_once() {
        let mut messages = Messages::default();
        assert_eq!(messages.status(0), MessageStatus::Stale);
        assert_eq!(messages.status(2), MessageStatus::Ahead);
        for id in 1..=100 {
            assert_eq!(messages.status(id), MessageStatus::New);
            messages.accept(id * 10, 3);
        }
        assert_eq!(messages.status(36), MessageStatus::Stale);
        for id in 37..=100 {
            let receipt = Receipt { id, sequence: id * 10, due: 3, repeat: true };
            assert_eq!(messages.status(id), MessageStatus::Repeat(receipt));
        }
        assert_eq!(messages.status(102), MessageStatus::Ahead);
        messages.refuse(103, Code::TooLarge);
        messages.refuse(101, Code::TooLarge);
        assert_eq!(messages.status(101), MessageStatus::Refused(Code::TooLarge));
        assert_eq!(messages.status(102), MessageStatus::New);
        assert_eq!(messages.status(u64::MAX), MessageStatus::Ahead);
    }

    #[test]
    fn a_run_of_messages_is_noted_like_each_of_them() {
        for (before, count) in [(0, 0), (0, 1), (3, 5), (0, 64), (1, 64), (63, 2), (64, 1), (10, 200), (70, 63)] {
            let (mut run, mut single) = (Messages::default(), Messages::default());
            for messages in [&mut run, &mut single] {
                for id in 0..before {
                    messages.accept(id + 5, 1);
                }
            }
            run.accept_run(1_000, count, 3);
            for nth in 0..count {
                single.accept(1_000 + nth, 3);
            }
            assert_eq!(run.last(), single.last());
            assert!((0..before + count + 3).all(|id| run.status(id) == single.status(id)), "{count} after {before}");
            assert_eq!(run.outcomes.len(), single.outcomes.len());
        }
    }

    #[test]
    fn s18_a_session_is_resumed_by_its_owner_only() {
        let mut sessions = Sessions::default();
        sessions.detach(Time(1_000), session(1), from(1), room(10, 10));
        assert!(sessions.claim(&resume(2, 1), Some(7)).is_none(), "another's number");
        assert!(sessions.claim(&resume(1, 2), Some(7)).is_none(), "another secret");
        assert!(sessions.claim(&resume(1, 1), Some(8)).is_none(), "another user");
        assert!(sessions.claim(&resume(1, 1), None).is_none(), "from another transport");
        assert!(sessions.claim(&resume(1, 1), Some(7)).is_some());
        assert!(sessions.claim(&resume(1, 1), Some(7)).is_none(), "only once");
        assert_eq!(sessions.deadline(), None);
    }

    #[test]
    fn sessions_are_forgotten_in_time_and_when_there_are_too_many() {
        let mut sessions = Sessions::default();
        for number in 1..=5 {
            sessions.detach(Time(number + 10), session(number), from(1), room(3, 10));
        }
        assert_eq!(sessions.detached_count(), 3);
        assert!(sessions.claim(&resume(2, 2), Some(7)).is_none());
        sessions.expire(Time(14));
        assert_eq!((sessions.detached_count(), sessions.deadline()), (1, Some(Time(15))));
        sessions.expire(Time(15));
        assert!(sessions.by_source.is_empty());
    }

    #[test]
    fn whoever_leaves_many_sessions_behind_loses_its_own() {
        let mut sessions = Sessions::default();
        let mut park = |number, user, room| {
            sessions.detach(Time(number), session(number), from(user), room);
            (1..=number).filter(|number| sessions.detached(*number).is_some()).collect::<Vec<_>>()
        };
        // The cap of a source.
        park(1, 1, room(6, 2));
        park(2, 2, room(6, 2));
        park(3, 2, room(6, 2));
        assert_eq!(park(4, 2, room(6, 2)), [1, 3, 4]);
        // No cap, and no room: who has more than its share makes room by itself.
        for number in 5..20 {
            park(number, 2, room(6, usize::MAX));
        }
        assert_eq!(park(20, 2, room(6, usize::MAX)), [1, 16, 17, 18, 19, 20]);
        // Who has less gets some.
        assert_eq!(park(21, 3, room(6, usize::MAX)), [16, 17, 18, 19, 20, 21]);
        assert_eq!(park(22, 3, room(6, usize::MAX)), [17, 18, 19, 20, 21, 22]);
    }
}
