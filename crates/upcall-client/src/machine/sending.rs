//! The queue of inputs without a receipt. They are sent in order, a window of them at a time, and repeated with the
//! same message id until they are answered.
//!
//! This module knows message ids and the time, but no bytes: [`super::transmit`] writes the frames.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fastrand::Rng;
use upcall_wire::frame::Send;

use super::event::InputId;
use super::timing::RoundTrip;

/// The most inputs without a receipt: the daemon keeps this many receipts of a session.
pub(super) const WINDOW: usize = 64;

/// How many inputs may be in flight over datagrams at first.
const FIRST_WINDOW: usize = 16;

/// How many may be in flight after any number of timeouts.
const SMALLEST_WINDOW: usize = 2;

/// How long to wait after the first error `busy`. The wait doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The longest such wait.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Entry {
    input: InputId,
    /// Its message id in the session, once it has been sent there.
    id: Option<u64>,
    topic: String,
    payload: Vec<u8>,
    /// Whether it has been sent, and its receipt is not overdue.
    in_flight: bool,
    /// When it was sent, if it was sent only once.
    sent_once_at: Option<Instant>,
}

/// The inputs without a receipt.
#[derive(Debug)]
pub(super) struct SendQueue {
    queue: VecDeque<Entry>,
    next_input: InputId,
    /// The next message id.
    next_id: u64,
    /// How many may be in flight over datagrams.
    window: usize,
    /// When to repeat everything that is in flight.
    repeat_at: Option<Instant>,
    /// Nothing is sent before this time, because the daemon is busy.
    busy_until: Option<Instant>,
    /// How many times in a row the receipt of the oldest was overdue.
    tries: u32,
    /// How many times in a row the daemon was busy.
    busy_count: u32,
    /// Since when inputs are in flight and none has been answered.
    since: Option<Instant>,
}

impl SendQueue {
    pub(super) fn new() -> SendQueue {
        SendQueue {
            queue: VecDeque::new(),
            next_input: 1,
            next_id: 1,
            window: FIRST_WINDOW,
            repeat_at: None,
            busy_until: None,
            tries: 0,
            busy_count: 0,
            since: None,
        }
    }

    /// Whether there is room for another input.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < WINDOW
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn push(&mut self, topic: &str, payload: &[u8]) -> InputId {
        let input = self.next_input;
        self.next_input += 1;
        let (topic, payload) = (topic.to_owned(), payload.to_vec());
        self.queue.push_back(Entry { input, id: None, topic, payload, in_flight: false, sent_once_at: None });
        input
    }

    /// The session was resumed. The daemon has accepted every message id up to `last`.
    pub(super) fn resume(&mut self, last: u64) {
        self.next_id = self.next_id.max(last + 1);
        self.repeat_all();
        self.tries = 0;
    }

    /// A new session begins. Returns what was sent in the old one, since there is no way left to find out whether it
    /// was accepted.
    pub(super) fn begin(&mut self) -> Vec<InputId> {
        self.next_id = 1;
        self.tries = 0;
        self.repeat_all();
        let (sent, unsent) = self.queue.drain(..).partition::<VecDeque<_>, _>(|entry| entry.id.is_some());
        self.queue = unsent;
        sent.into_iter().map(|entry| entry.input).collect()
    }

    /// Marks everything for transmission.
    fn repeat_all(&mut self) {
        for entry in &mut self.queue {
            entry.in_flight = false;
        }
        self.repeat_at = None;
        self.busy_until = None;
        self.since = None;
    }

    /// The next input to send now.
    pub(super) fn next(&self, now: Instant, is_stream: bool) -> Option<Send<'_>> {
        if self.busy_until.is_some_and(|until| until > now) {
            return None;
        }
        let at = self.queue.iter().position(|entry| !entry.in_flight)?;
        let window = if is_stream { WINDOW } else { self.window };
        let entry = self.queue.get(at).filter(|_| at < window)?;
        let id = entry.id.unwrap_or(self.next_id);
        // If the first receipt is lost and later ones arrive, the daemon must not forget it before it is requested
        // again.
        let oldest = self.queue.iter().find_map(|entry| entry.id).unwrap_or(id);
        if id - oldest.min(id) >= WINDOW as u64 {
            return None;
        }
        Some(Send { id, receipt: true, topic: &entry.topic, payload: &entry.payload })
    }

    /// The next input has been sent. `timeout` computes how long to wait for its receipt.
    pub(super) fn sent(&mut self, now: Instant, timeout: impl FnOnce(u32) -> Option<Duration>) {
        let Some(entry) = self.queue.iter_mut().find(|entry| !entry.in_flight) else { return };
        entry.in_flight = true;
        entry.sent_once_at = entry.id.is_none().then_some(now);
        if entry.id.is_none() {
            entry.id = Some(self.next_id);
            self.next_id += 1;
        }
        self.since.get_or_insert(now);
        if self.repeat_at.is_none() {
            self.repeat_at = timeout(self.tries + 1).map(|timeout| now + timeout);
        }
    }

    /// Removes the next input, if it was never sent.
    pub(super) fn remove_unsent(&mut self) -> Option<InputId> {
        let at = self.queue.iter().position(|entry| !entry.in_flight && entry.id.is_none())?;
        self.queue.remove(at).map(|entry| entry.input)
    }

    /// Removes the input with this message id, because a receipt or an error for it has come. Also returns the round
    /// trip, if it was sent only once.
    pub(super) fn answered(&mut self, id: u64, now: Instant) -> Option<(InputId, Option<Duration>)> {
        let at = self.queue.iter().position(|entry| entry.id == Some(id))?;
        let entry = self.queue.remove(at)?;
        self.window = (self.window + 1).min(WINDOW);
        self.tries = 0;
        self.busy_count = 0;
        self.busy_until = None;
        let in_flight = self.queue.iter().any(|entry| entry.in_flight);
        self.since = in_flight.then_some(now);
        // The others get a full timeout, counted from this answer.
        self.repeat_at = None;
        Some((entry.input, entry.sent_once_at.map(|sent| now.saturating_duration_since(sent))))
    }

    /// Starts the timer for what is in flight, unless it runs.
    pub(super) fn start_timer(&mut self, now: Instant, round_trip: &RoundTrip, random: &mut Rng) {
        if self.repeat_at.is_none() && self.queue.iter().any(|entry| entry.in_flight) {
            self.repeat_at = Some(now + round_trip.timeout(self.tries + 1, random));
        }
    }

    /// The daemon accepts no inputs at the moment: schedules everything to be repeated a little later.
    pub(super) fn busy(&mut self, now: Instant, random: &mut Rng) {
        if self.busy_until.is_some() {
            // The daemon answers each of the inputs that arrived together. The first answer counts.
            return;
        }
        let since = self.since;
        self.repeat_all();
        // The daemon is alive, but has confirmed nothing. The window stays, because this is not congestion.
        self.since = since;
        let pause = (FIRST_PAUSE * (1 << self.busy_count.min(6))).min(LONGEST_PAUSE);
        self.busy_count += 1;
        self.busy_until = Some(now + pause + pause.mul_f64(random.f64() / 4.0));
    }

    /// Repeats everything if the receipt of the oldest is overdue, with half the window.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.busy_until.is_some_and(|until| until <= now) {
            self.busy_until = None;
        }
        if self.repeat_at.is_some_and(|at| at <= now) {
            let since = self.since;
            self.repeat_all();
            self.since = since;
            self.tries = self.tries.saturating_add(1);
            self.window = (self.window / 2).max(SMALLEST_WINDOW);
        }
    }

    /// When to call [`SendQueue::expire`].
    pub(super) fn due(&self) -> Option<Instant> {
        [self.repeat_at, self.busy_until].into_iter().flatten().min()
    }

    /// Since when inputs are in flight and none has been answered.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Empties the queue. Returns every input, and whether it was ever sent in this session.
    pub(super) fn abandon(&mut self) -> Vec<(InputId, bool)> {
        self.queue.drain(..).map(|entry| (entry.input, entry.id.is_some())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(inputs: &mut SendQueue, now: Instant) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Some(send) = inputs.next(now, false) {
            ids.push(send.id);
            inputs.sent(now, |_| Some(Duration::from_secs(1)));
        }
        ids
    }

    #[test]
    fn overdue_inputs_are_repeated_in_order_with_half_the_window() {
        let (mut inputs, now) = (SendQueue::new(), Instant::now());
        for _ in 0..20 {
            inputs.push("", b"x");
        }
        assert_eq!(ids(&mut inputs, now), (1..=16).collect::<Vec<_>>());
        let (input, sample) = inputs.answered(1, now + Duration::from_millis(3)).unwrap();
        assert_eq!((input, sample), (1, Some(Duration::from_millis(3))));
        assert_eq!(inputs.answered(1, now), None);
        let late = now + Duration::from_secs(2);
        assert_eq!(ids(&mut inputs, now), [17, 18]);
        inputs.expire(late);
        assert_eq!(ids(&mut inputs, late), (2..=9).collect::<Vec<_>>());
        assert_eq!(inputs.answered(2, late).unwrap(), (2, None));
    }

    #[test]
    fn a_new_session_sends_only_what_was_never_sent() {
        let (mut inputs, now) = (SendQueue::new(), Instant::now());
        for _ in 0..20 {
            inputs.push("", b"x");
        }
        ids(&mut inputs, now);
        assert_eq!(inputs.begin(), (1..=16).collect::<Vec<_>>());
        assert_eq!(ids(&mut inputs, now), [1, 2, 3, 4]);
        inputs.resume(2);
        assert_eq!(ids(&mut inputs, now), [1, 2, 3, 4]);
        inputs.push("", b"x");
        inputs.resume(9);
        assert_eq!(ids(&mut inputs, now), [1, 2, 3, 4, 10]);
    }
}
