//! Sessions: only their owners resume them, and how many are kept is bounded.

use upcall_wire::frame::Resume;

use super::*;
use crate::id::{LimitSource, ListenerNumber};

fn resume(id: u64, byte: u8) -> Resume {
    Resume { id, secret: [byte; 16], last: 0 }
}

fn from(user: u32) -> (ListenerNumber, LimitSource) {
    (1, LimitSource::User(user))
}

fn limits(all: usize, per_source: usize) -> DetachedLimits {
    DetachedLimits { all, per_source }
}

fn session(number: u64) -> Session {
    Session { number, secret: [number as u8; 16], user: Some(7), ..Session::default() }
}

#[test]
fn s18_a_session_is_resumed_by_its_owner_only() {
    let mut sessions = Sessions::default();
    sessions.detach(Time(1_000), session(1), from(1), limits(10, 10));
    assert!(sessions.take_detached(&resume(2, 1), Some(7)).is_none(), "another's number");
    assert!(sessions.take_detached(&resume(1, 2), Some(7)).is_none(), "another secret");
    assert!(sessions.take_detached(&resume(1, 1), Some(8)).is_none(), "another user");
    assert!(sessions.take_detached(&resume(1, 1), None).is_none(), "from another transport");
    assert!(sessions.take_detached(&resume(1, 1), Some(7)).is_some());
    assert!(sessions.take_detached(&resume(1, 1), Some(7)).is_none(), "only once");
    assert_eq!(sessions.deadline(), None);
}

#[test]
fn sessions_are_forgotten_in_time_and_when_there_are_too_many() {
    let mut sessions = Sessions::default();
    for number in 1..=5 {
        sessions.detach(Time(number + 10), session(number), from(1), limits(3, 10));
    }
    assert_eq!(sessions.detached_count(), 3);
    assert!(sessions.take_detached(&resume(2, 2), Some(7)).is_none());
    sessions.expire(Time(14));
    assert_eq!((sessions.detached_count(), sessions.deadline()), (1, Some(Time(15))));
    sessions.expire(Time(15));
    assert!(sessions.by_source.is_empty());
}

#[test]
fn a_source_with_many_detached_sessions_loses_its_own() {
    let mut sessions = Sessions::default();
    let mut detach = |number, user, limits| {
        sessions.detach(Time(number), session(number), from(user), limits);
        (1..=number).filter(|number| sessions.detached(*number).is_some()).collect::<Vec<_>>()
    };
    // The limit of a source.
    detach(1, 1, limits(6, 2));
    detach(2, 2, limits(6, 2));
    detach(3, 2, limits(6, 2));
    assert_eq!(detach(4, 2, limits(6, 2)), [1, 3, 4]);
    // No limit, and no room: a source with more than its share loses its own.
    for number in 5..20 {
        detach(number, 2, limits(6, usize::MAX));
    }
    assert_eq!(detach(20, 2, limits(6, usize::MAX)), [1, 16, 17, 18, 19, 20]);
    // A source with less than its share has room.
    assert_eq!(detach(21, 3, limits(6, usize::MAX)), [16, 17, 18, 19, 20, 21]);
    assert_eq!(detach(22, 3, limits(6, usize::MAX)), [17, 18, 19, 20, 21, 22]);
}
