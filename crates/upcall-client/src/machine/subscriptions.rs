//! What we want to hear of: requests until they are answered, and what a new session is to begin with. Pure.

use std::time::Instant;

use super::event::Event;
use super::timing::Attempt;
use upcall_wire::frame::{Code, Filters, Frame};

#[derive(Debug)]
struct Request {
    /// What the caller knows it by; none for one of our own.
    ticket: Option<u64>,
    /// Its number in the session, once it has one.
    id: Option<u32>,
    add: bool,
    filters: Vec<String>,
    attempt: Attempt,
}

/// The filters of an endpoint.
#[derive(Debug)]
pub(super) struct Wanted {
    filters: Vec<String>,
    /// Filters were given at some time: none means nothing, not everything.
    given: bool,
    requests: Vec<Request>,
    /// What the HELLO that is under way begins with, and how many of the requests that answers.
    greeting: (Vec<String>, usize),
    next_ticket: u64,
    next_id: u32,
}

/// What nobody says, to begin with when nothing is wanted: no filter at all would mean everything.
const NOTHING: &str = "upcall-client/nothing";

impl Wanted {
    pub(super) fn new(filters: Vec<String>, next_id: u32) -> Wanted {
        let given = !filters.is_empty();
        let (requests, greeting) = (Vec::new(), (Vec::new(), 0));
        Wanted { filters, given, requests, greeting, next_ticket: 1, next_id: next_id.max(1) }
    }

    /// A HELLO is to begin a new session. It says the same however often it is repeated: the daemon may have taken the first.
    pub(super) fn greet(&mut self) {
        let nothing = self.given && self.filters.is_empty();
        let filters = if nothing { vec![NOTHING.to_owned()] } else { self.filters.clone() };
        self.greeting = (filters, self.requests.len());
    }

    /// What the new session begins with.
    pub(super) fn initial(&self) -> Vec<&str> {
        self.greeting.0.iter().map(String::as_str).collect()
    }

    /// The number of the next request.
    pub(super) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Wants more (`add`), or less.
    pub(super) fn change(&mut self, add: bool, filters: &[&str]) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.apply(add, filters);
        self.request(Some(ticket), add, filters);
        ticket
    }

    fn apply(&mut self, add: bool, filters: &[&str]) {
        self.filters.retain(|known| !filters.contains(&known.as_str()));
        if add {
            self.given = true;
            self.filters.extend(filters.iter().map(|&filter| filter.to_owned()));
        }
    }

    fn request(&mut self, ticket: Option<u64>, add: bool, filters: &[&str]) {
        let filters = filters.iter().map(|&filter| filter.to_owned()).collect();
        self.requests.push(Request { ticket, id: None, add, filters, attempt: Attempt::default() });
    }

    /// A new session has begun with what was wanted when its HELLO was made: that answers the requests until then.
    pub(super) fn begin(&mut self, from: u64, out: &mut impl FnMut(Event)) {
        self.next_id = 1;
        let (mut begun, answered) = std::mem::take(&mut self.greeting);
        let everything = begun.is_empty();
        let nothing = begun == [NOTHING];
        if nothing {
            begun.clear();
        }
        for request in self.requests.drain(..answered.min(self.requests.len())) {
            if let Some(request) = request.ticket {
                out(Event::Subscribed { request, from, everything, filters: begun.clone() });
            }
        }
        for request in &mut self.requests {
            (request.id, request.attempt) = (None, Attempt::default());
        }
        if nothing {
            self.request(None, false, &[NOTHING]);
            self.requests.rotate_right(1);
        }
    }

    /// The session goes on: what is not answered is said again.
    pub(super) fn resume(&mut self) {
        for request in &mut self.requests {
            request.attempt = Attempt::default();
        }
    }

    /// What is to be said next, if anything is by now. One at a time: the order matters.
    pub(super) fn next(&self, now: Instant) -> Option<Frame<'_>> {
        let request = self.requests.first().filter(|request| request.attempt.is_due(now))?;
        let filters = request.filters.iter().map(String::as_str).collect();
        let filters = Filters { request: request.id.unwrap_or(self.next_id), filters };
        Some(if request.add { Frame::Subscribe(filters) } else { Frame::Unsubscribe(filters) })
    }

    /// The next one has been said.
    pub(super) fn said(&mut self, said: impl FnOnce(&mut Attempt)) {
        if let Some(request) = self.requests.first_mut() {
            if request.id.is_none() {
                request.id = Some(self.next_id);
                self.next_id += 1;
            }
            said(&mut request.attempt);
        }
    }

    /// The request that is waited for.
    pub(super) fn waiting(&self) -> Option<&Attempt> {
        self.requests.first().map(|request| &request.attempt)
    }

    fn take(&mut self, id: u64) -> Option<Request> {
        let at = self.requests.iter().position(|request| request.id.map(u64::from) == Some(id))?;
        Some(self.requests.remove(at))
    }

    /// The answer to a request.
    pub(super) fn subscribed(
        &mut self,
        id: u32,
        from: u64,
        everything: bool,
        filters: &[&str],
    ) -> Option<(Event, Attempt)> {
        let request = self.take(id.into())?;
        let filters = filters.iter().map(|&filter| filter.to_owned()).collect();
        let event = request.ticket.map(|request| Event::Subscribed { request, from, everything, filters });
        event.map(|event| (event, request.attempt))
    }

    /// Whether a request was made, and has been answered.
    pub(super) fn is_answered(&self, id: u64) -> bool {
        id < self.next_id.into() && !self.requests.iter().any(|request| request.id.map(u64::from) == Some(id))
    }

    /// A request was refused: what it wanted is not wanted any more. Says whether that was it.
    pub(super) fn refused(&mut self, id: u64, code: Code, text: &str, out: &mut impl FnMut(Event)) -> bool {
        let Some(request) = self.take(id) else { return false };
        if request.add {
            self.filters.retain(|known| !request.filters.contains(known));
        }
        if let Some(request) = request.ticket {
            out(Event::NotSubscribed { request, code, text: text.to_owned() });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_session_begins_with_what_is_wanted() {
        let mut wanted = Wanted::new(vec!["a".into()], 1);
        wanted.change(true, &["b*", "a"]);
        wanted.change(false, &["a"]);
        wanted.greet();
        assert_eq!(wanted.initial(), ["b*"]);
        // What is wanted while the HELLO is under way is not in it.
        wanted.change(true, &["c"]);
        assert_eq!(wanted.initial(), ["b*"]);
        let mut events = Vec::new();
        wanted.begin(7, &mut |event| events.push(event));
        let answer = |request| Event::Subscribed { request, from: 7, everything: false, filters: vec!["b*".into()] };
        assert_eq!(events, [answer(1), answer(2)]);
        let request = Filters { request: 1, filters: vec!["c"] };
        assert_eq!(wanted.next(Instant::now()), Some(Frame::Subscribe(request)));
    }

    #[test]
    fn nothing_is_not_everything() {
        let mut wanted = Wanted::new(vec!["a".into()], 1);
        wanted.change(false, &["a"]);
        wanted.greet();
        assert_eq!(wanted.initial(), [NOTHING]);
        wanted.begin(1, &mut |_| {});
        let request = Filters { request: 1, filters: vec![NOTHING] };
        assert_eq!(wanted.next(Instant::now()), Some(Frame::Unsubscribe(request)));
    }

    #[test]
    fn requests_are_said_one_after_the_other_until_answered() {
        let (mut wanted, now) = (Wanted::new(Vec::new(), 5), Instant::now());
        wanted.change(true, &["a"]);
        wanted.change(true, &["b"]);
        let said = |wanted: &mut Wanted| wanted.said(|attempt| attempt.said(now, |_| None));
        said(&mut wanted);
        assert_eq!(wanted.next(now), None);
        assert!(wanted.subscribed(4, 1, false, &["a"]).is_none());
        assert!(wanted.subscribed(5, 1, false, &["a"]).is_some());
        said(&mut wanted);
        let mut events = Vec::new();
        assert!(wanted.refused(6, Code::Limit, "no", &mut |event| events.push(event)));
        wanted.greet();
        assert_eq!((wanted.initial(), events.len()), (vec!["a"], 1));
    }
}
