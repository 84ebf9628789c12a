//! The filters of this client: requests to change them, until they are answered, and the filters of the next HELLO.

use std::time::Instant;

use upcall_wire::frame::{Code, Filters, Frame};

use super::event::Event;
use super::timing::Attempt;

#[derive(Debug)]
struct Request {
    /// The number that was returned to the caller; `None` for a request of our own.
    number: Option<u64>,
    /// Its request id in the session, once it has been sent there.
    id: Option<u32>,
    add: bool,
    filters: Vec<String>,
    attempt: Attempt,
}

/// The filters of this client.
#[derive(Debug)]
pub(super) struct Subscriptions {
    /// The filters that the caller wants.
    filters: Vec<String>,
    /// Whether there ever was a filter. If so, no filter means nothing; otherwise it means everything.
    had_filter: bool,
    /// The requests without an answer, oldest first.
    requests: Vec<Request>,
    /// The filters of the HELLO in flight, and how many of the requests they include.
    hello: (Vec<String>, usize),
    next_number: u64,
    next_id: u32,
}

/// A topic that no program uses. A HELLO without a filter would subscribe to everything, so this one subscribes to
/// nothing.
const NOTHING: &str = "upcall-client/nothing";

impl Subscriptions {
    pub(super) fn new(filters: Vec<String>, next_id: u32) -> Subscriptions {
        let had_filter = !filters.is_empty();
        let (requests, hello) = (Vec::new(), (Vec::new(), 0));
        Subscriptions { filters, had_filter, requests, hello, next_number: 1, next_id: next_id.max(1) }
    }

    /// Fixes the filters of a HELLO for a new session. Its repetitions have the same ones, because the daemon may have
    /// accepted any of them.
    pub(super) fn begin_hello(&mut self) {
        let nothing = self.had_filter && self.filters.is_empty();
        let filters = if nothing { vec![NOTHING.to_owned()] } else { self.filters.clone() };
        self.hello = (filters, self.requests.len());
    }

    /// The filters of the HELLO.
    pub(super) fn of_hello(&self) -> Vec<&str> {
        self.hello.0.iter().map(String::as_str).collect()
    }

    /// The id of the next request.
    pub(super) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Adds or removes filters. Returns the number of the request.
    pub(super) fn change(&mut self, add: bool, filters: &[&str]) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.apply(add, filters);
        self.request(Some(number), add, filters);
        number
    }

    fn apply(&mut self, add: bool, filters: &[&str]) {
        self.filters.retain(|known| !filters.contains(&known.as_str()));
        if add {
            self.had_filter = true;
            self.filters.extend(filters.iter().map(|&filter| filter.to_owned()));
        }
    }

    fn request(&mut self, number: Option<u64>, add: bool, filters: &[&str]) {
        let filters = filters.iter().map(|&filter| filter.to_owned()).collect();
        self.requests.push(Request { number, id: None, add, filters, attempt: Attempt::default() });
    }

    /// A new session has begun with the filters of its HELLO. That answers the requests that these include.
    pub(super) fn begin(&mut self, from: u64, out: &mut impl FnMut(Event)) {
        self.next_id = 1;
        let (mut in_force, answered) = std::mem::take(&mut self.hello);
        let everything = in_force.is_empty();
        let nothing = in_force == [NOTHING];
        if nothing {
            in_force.clear();
        }
        for request in self.requests.drain(..answered.min(self.requests.len())) {
            if let Some(request) = request.number {
                out(Event::Subscribed { request, from, everything, filters: in_force.clone() });
            }
        }
        for request in &mut self.requests {
            (request.id, request.attempt) = (None, Attempt::default());
        }
        if nothing {
            // No filter is left once this one is removed, before anything else.
            self.request(None, false, &[NOTHING]);
            self.requests.rotate_right(1);
        }
    }

    /// The session was resumed: requests without an answer are sent again.
    pub(super) fn resume(&mut self) {
        for request in &mut self.requests {
            request.attempt = Attempt::default();
        }
    }

    /// The next request to send now. There is one at a time, because their order matters.
    pub(super) fn next(&self, now: Instant) -> Option<Frame<'_>> {
        let request = self.requests.first().filter(|request| request.attempt.is_due(now))?;
        let filters = request.filters.iter().map(String::as_str).collect();
        let filters = Filters { request: request.id.unwrap_or(self.next_id), filters };
        Some(if request.add { Frame::Subscribe(filters) } else { Frame::Unsubscribe(filters) })
    }

    /// The next request has been sent. `sent` updates its attempt.
    pub(super) fn sent(&mut self, sent: impl FnOnce(&mut Attempt)) {
        if let Some(request) = self.requests.first_mut() {
            if request.id.is_none() {
                request.id = Some(self.next_id);
                self.next_id += 1;
            }
            sent(&mut request.attempt);
        }
    }

    /// The attempt of the oldest request.
    pub(super) fn attempt(&self) -> Option<&Attempt> {
        self.requests.first().map(|request| &request.attempt)
    }

    fn remove(&mut self, id: u64) -> Option<Request> {
        let at = self.requests.iter().position(|request| request.id.map(u64::from) == Some(id))?;
        Some(self.requests.remove(at))
    }

    /// Removes the request with this id, which has been answered. Returns the event for the caller, if it is one of
    /// theirs.
    pub(super) fn subscribed(
        &mut self,
        id: u32,
        from: u64,
        everything: bool,
        filters: &[&str],
    ) -> Option<(Event, Attempt)> {
        let request = self.remove(id.into())?;
        let filters = filters.iter().map(|&filter| filter.to_owned()).collect();
        let event = request.number.map(|request| Event::Subscribed { request, from, everything, filters });
        event.map(|event| (event, request.attempt))
    }

    /// Whether the request with this id has been sent and answered.
    pub(super) fn is_answered(&self, id: u64) -> bool {
        id < self.next_id.into() && !self.requests.iter().any(|request| request.id.map(u64::from) == Some(id))
    }

    /// Removes the request with this id, which was refused, and the filters that it wanted to add. Returns whether
    /// there was such a request.
    pub(super) fn refused(&mut self, id: u64, code: Code, text: &str, out: &mut impl FnMut(Event)) -> bool {
        let Some(request) = self.remove(id) else { return false };
        if request.add {
            self.filters.retain(|known| !request.filters.contains(known));
        }
        if let Some(request) = request.number {
            out(Event::NotSubscribed { request, code, text: text.to_owned() });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_session_begins_with_the_filters() {
        let mut subscriptions = Subscriptions::new(vec!["a".into()], 1);
        subscriptions.change(true, &["b*", "a"]);
        subscriptions.change(false, &["a"]);
        subscriptions.begin_hello();
        assert_eq!(subscriptions.of_hello(), ["b*"]);
        // A change while the HELLO is in flight is not in it.
        subscriptions.change(true, &["c"]);
        assert_eq!(subscriptions.of_hello(), ["b*"]);
        let mut events = Vec::new();
        subscriptions.begin(7, &mut |event| events.push(event));
        let answer = |request| Event::Subscribed { request, from: 7, everything: false, filters: vec!["b*".into()] };
        assert_eq!(events, [answer(1), answer(2)]);
        let request = Filters { request: 1, filters: vec!["c"] };
        assert_eq!(subscriptions.next(Instant::now()), Some(Frame::Subscribe(request)));
    }

    #[test]
    fn nothing_is_not_everything() {
        let mut subscriptions = Subscriptions::new(vec!["a".into()], 1);
        subscriptions.change(false, &["a"]);
        subscriptions.begin_hello();
        assert_eq!(subscriptions.of_hello(), [NOTHING]);
        subscriptions.begin(1, &mut |_| {});
        let request = Filters { request: 1, filters: vec![NOTHING] };
        assert_eq!(subscriptions.next(Instant::now()), Some(Frame::Unsubscribe(request)));
    }

    #[test]
    fn requests_are_sent_one_after_the_other_until_answered() {
        let (mut subscriptions, now) = (Subscriptions::new(Vec::new(), 5), Instant::now());
        subscriptions.change(true, &["a"]);
        subscriptions.change(true, &["b"]);
        let sent = |subscriptions: &mut Subscriptions| subscriptions.sent(|attempt| attempt.sent(now, |_| None));
        sent(&mut subscriptions);
        assert_eq!(subscriptions.next(now), None);
        assert!(subscriptions.subscribed(4, 1, false, &["a"]).is_none());
        assert!(subscriptions.subscribed(5, 1, false, &["a"]).is_some());
        sent(&mut subscriptions);
        let mut events = Vec::new();
        assert!(subscriptions.refused(6, Code::Limit, "no", &mut |event| events.push(event)));
        subscriptions.begin_hello();
        assert_eq!((subscriptions.of_hello(), events.len()), (vec!["a"], 1));
    }
}
