//! Inputs that the daemon has yet to confirm: in order, a window of them at a time, repeated with the same number until
//! their receipts come. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::timing::RoundTrip;
use upcall_wire::frame::Send;

/// The most that may be under way: a daemon keeps that many receipts of a session.
pub(super) const WINDOW: usize = 64;

/// Under way at first over datagrams, and never fewer than two.
const FIRST: usize = 16;

/// How long to wait where inputs are held, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Entry {
    ticket: u64,
    /// Its number in the session, once it has been sent in it.
    id: Option<u64>,
    topic: String,
    payload: Vec<u8>,
    /// It is on its way.
    out: bool,
    /// When it was sent, if it was only once.
    once: Option<Instant>,
}

/// What is to be confirmed.
#[derive(Debug)]
pub(super) struct Sending {
    queue: VecDeque<Entry>,
    next_ticket: u64,
    next_id: u64,
    window: usize,
    /// When to begin again with the first.
    due: Option<Instant>,
    /// Not before.
    hold: Option<Instant>,
    tries: u32,
    /// How often in a row it was to be sent later.
    holds: u32,
    /// Since when nothing has been confirmed.
    since: Option<Instant>,
}

impl Sending {
    pub(super) fn new() -> Sending {
        Sending {
            queue: VecDeque::new(),
            next_ticket: 1,
            next_id: 1,
            window: FIRST,
            due: None,
            hold: None,
            tries: 0,
            holds: 0,
            since: None,
        }
    }

    /// Whether another input can be taken.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < WINDOW
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn add(&mut self, topic: &str, payload: &[u8]) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let (topic, payload) = (topic.to_owned(), payload.to_vec());
        self.queue.push_back(Entry { ticket, id: None, topic, payload, out: false, once: None });
        ticket
    }

    /// The same session goes on, in which the daemon has taken everything up to `last`.
    pub(super) fn resume(&mut self, last: u64) {
        self.next_id = self.next_id.max(last + 1);
        self.again();
        self.tries = 0;
    }

    /// A new session begins: returns what was sent in the old one, whose fate nobody knows.
    pub(super) fn begin(&mut self) -> Vec<u64> {
        self.next_id = 1;
        self.tries = 0;
        self.again();
        let (sent, unsent) = self.queue.drain(..).partition::<VecDeque<_>, _>(|entry| entry.id.is_some());
        self.queue = unsent;
        sent.into_iter().map(|entry| entry.ticket).collect()
    }

    /// Everything that is under way is to be sent again.
    fn again(&mut self) {
        for entry in &mut self.queue {
            entry.out = false;
        }
        self.due = None;
        self.hold = None;
        self.since = None;
    }

    /// What is to be sent next, if anything is by now.
    pub(super) fn next(&self, now: Instant, is_stream: bool) -> Option<Send<'_>> {
        if self.hold.is_some_and(|hold| hold > now) {
            return None;
        }
        let at = self.queue.iter().position(|entry| !entry.out)?;
        let window = if is_stream { WINDOW } else { self.window };
        let entry = self.queue.get(at).filter(|_| at < window)?;
        let id = entry.id.unwrap_or(self.next_id);
        // Where the receipt of the first is lost and those of the others come, it must not fall behind.
        let oldest = self.queue.iter().find_map(|entry| entry.id).unwrap_or(id);
        if id - oldest.min(id) >= WINDOW as u64 {
            return None;
        }
        Some(Send { id, receipt: true, topic: &entry.topic, payload: &entry.payload })
    }

    /// The next one has been sent; `timeout`: how long to wait for its receipt.
    pub(super) fn sent(&mut self, now: Instant, timeout: impl FnOnce(u32) -> Option<Duration>) {
        let Some(entry) = self.queue.iter_mut().find(|entry| !entry.out) else { return };
        entry.out = true;
        entry.once = entry.id.is_none().then_some(now);
        if entry.id.is_none() {
            entry.id = Some(self.next_id);
            self.next_id += 1;
        }
        self.since.get_or_insert(now);
        if self.due.is_none() {
            self.due = timeout(self.tries + 1).map(|timeout| now + timeout);
        }
    }

    /// The next one cannot be sent at all: takes it out.
    pub(super) fn refuse(&mut self) -> Option<u64> {
        let at = self.queue.iter().position(|entry| !entry.out && entry.id.is_none())?;
        self.queue.remove(at).map(|entry| entry.ticket)
    }

    /// Takes out the one with this number: a receipt has come, or an error. Says how long that took, where it is known.
    pub(super) fn answered(&mut self, id: u64, now: Instant) -> Option<(u64, Option<Duration>)> {
        let at = self.queue.iter().position(|entry| entry.id == Some(id))?;
        let entry = self.queue.remove(at)?;
        self.window = (self.window + 1).min(WINDOW);
        self.tries = 0;
        self.holds = 0;
        self.hold = None;
        let under_way = self.queue.iter().any(|entry| entry.out);
        self.since = under_way.then_some(now);
        // The others get as long again, counted from this sign of life.
        self.due = None;
        Some((entry.ticket, entry.once.map(|sent| now.saturating_duration_since(sent))))
    }

    /// Starts the clock for what is under way and has none.
    pub(super) fn wind(&mut self, now: Instant, round_trip: &RoundTrip, random: &mut Rng) {
        if self.due.is_none() && self.queue.iter().any(|entry| entry.out) {
            self.due = Some(now + round_trip.timeout(self.tries + 1, random));
        }
    }

    /// The daemon takes no inputs for now: begins again a little later.
    pub(super) fn held(&mut self, now: Instant, random: &mut Rng) {
        if self.hold.is_some() {
            // Each of those that came together is told so.
            return;
        }
        let since = self.since;
        self.again();
        // It is alive, so this is no sign that it is not; but nor is it congestion.
        self.since = since;
        let pause = (FIRST_PAUSE * (1 << self.holds.min(6))).min(LONGEST_PAUSE);
        self.holds += 1;
        self.hold = Some(now + pause + pause.mul_f64(random.f64() / 4.0));
    }

    /// Begins again with the first, if its receipt is overdue.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.hold.is_some_and(|hold| hold <= now) {
            self.hold = None;
        }
        if self.due.is_some_and(|due| due <= now) {
            let since = self.since;
            self.again();
            self.since = since;
            self.tries = self.tries.saturating_add(1);
            self.window = (self.window / 2).max(2);
        }
    }

    /// When to call [`Sending::expire`].
    pub(super) fn due(&self) -> Option<Instant> {
        [self.due, self.hold].into_iter().flatten().min()
    }

    /// Since when a receipt is waited for.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Everything that will never be sent, or whose fate nobody knows: what was sent, and what was not.
    pub(super) fn abandon(&mut self) -> Vec<(u64, bool)> {
        self.queue.drain(..).map(|entry| (entry.ticket, entry.id.is_some())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(sending: &mut Sending, now: Instant) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Some(send) = sending.next(now, false) {
            ids.push(send.id);
            sending.sent(now, |_| Some(Duration::from_secs(1)));
        }
        ids
    }

    #[test]
    fn what_is_overdue_goes_again_in_order_and_fewer_at_a_time() {
        let (mut sending, now) = (Sending::new(), Instant::now());
        for _ in 0..20 {
            sending.add("", b"x");
        }
        assert_eq!(ids(&mut sending, now), (1..=16).collect::<Vec<_>>());
        let (ticket, sample) = sending.answered(1, now + Duration::from_millis(3)).unwrap();
        assert_eq!((ticket, sample), (1, Some(Duration::from_millis(3))));
        assert_eq!(sending.answered(1, now), None);
        let late = now + Duration::from_secs(2);
        assert_eq!(ids(&mut sending, now), [17, 18]);
        sending.expire(late);
        assert_eq!(ids(&mut sending, late), (2..=9).collect::<Vec<_>>());
        assert_eq!(sending.answered(2, late).unwrap(), (2, None));
    }

    #[test]
    fn a_new_session_takes_what_was_never_sent() {
        let (mut sending, now) = (Sending::new(), Instant::now());
        for _ in 0..20 {
            sending.add("", b"x");
        }
        ids(&mut sending, now);
        assert_eq!(sending.begin(), (1..=16).collect::<Vec<_>>());
        assert_eq!(ids(&mut sending, now), [1, 2, 3, 4]);
        sending.resume(2);
        assert_eq!(ids(&mut sending, now), [1, 2, 3, 4]);
        sending.add("", b"x");
        sending.resume(9);
        assert_eq!(ids(&mut sending, now), [1, 2, 3, 4, 10]);
    }
}
