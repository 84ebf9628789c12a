//! The client's half of the native protocol without sockets: bytes and the time in, bytes and events out.
//!
//! ```text
//! receive: frames → chain: upcalls in order ─ sending: inputs and receipts ─ filters: what is wanted
//!                                             timing: when to say something again
//! transmit: what is to be said → bytes of a stream, or datagrams
//! ```
//!
//! Deterministic: there is no clock and no source of randomness in here. Whoever drives it calls [`Machine::connect`] when
//! there is a way to the daemon, hands it what came ([`Machine::receive`]), sends what it wants to be sent
//! ([`Machine::transmit`]) until it wants nothing more, wakes it at [`Machine::due`] with [`Machine::expire`], and takes
//! its [`Machine::event`]s. Whatever happens to the connection, inputs without a receipt, filters and the place in the log
//! stay here.

mod event;
mod ordering;
mod receive;
mod sending;
mod settings;
mod subscriptions;
mod timing;
mod transmit;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fastrand::Rng;

pub use event::{Cause, Event, Loss, Upcall};
pub use settings::{Carrier, Settings, Ticket};

use ordering::Chain;
use sending::Sending;
use subscriptions::Wanted;
use timing::{Attempt, RoundTrip};
use upcall_wire::frame::datagram::Arrivals;
use upcall_wire::frame::{FrameDecoder, Resume};

/// How often a goodbye over datagrams is said.
const GOODBYES: u32 = 3;

#[derive(Debug)]
enum State {
    /// There is no way to the daemon.
    Idle,
    /// HELLO is to be answered.
    Greeting { nonce: u64, cookie: Option<u64>, resume: Option<Resume>, attempt: Attempt },
    /// Registered.
    Ready { key: u64, max_message: usize },
}

/// A PING that is not answered yet.
#[derive(Debug)]
struct Ping {
    nonce: u64,
    cookie: Option<u64>,
    /// Somebody asked for it.
    asked: bool,
    attempt: Attempt,
}

/// The client's half of the protocol.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    random: Rng,
    state: State,
    session: Option<Ticket>,
    chain: Chain,
    sending: Sending,
    wanted: Wanted,
    pings: Vec<Ping>,
    pongs: Vec<u64>,
    decoder: FrameDecoder,
    arrivals: Arrivals,
    /// Datagrams have come that are to be acknowledged.
    acknowledge: bool,
    round_trip: RoundTrip,
    /// When something authentic last came.
    heard: Option<Instant>,
    /// How often to ask for a sign of life, and when to do so next.
    liveness: Duration,
    ask_at: Option<Instant>,
    leaving: Option<Attempt>,
    /// The daemon does not know the session any more.
    forgotten: bool,
    over: bool,
    events: VecDeque<Event>,
}

impl Machine {
    /// A machine that is not connected; the seed makes what it says unpredictable to others, and reproducible in a test.
    pub fn new(settings: Settings, seed: u64) -> Machine {
        let session = settings.resume;
        let is_stream = settings.carrier == Carrier::Stream;
        Machine {
            random: Rng::with_seed(seed),
            state: State::Idle,
            session,
            chain: Chain::new(is_stream, session.map_or(0, |session| session.last)),
            sending: Sending::new(),
            wanted: Wanted::new(settings.filters.clone(), session.map_or(1, |session| session.request)),
            pings: Vec::new(),
            pongs: Vec::new(),
            decoder: FrameDecoder::default(),
            arrivals: Arrivals::default(),
            acknowledge: false,
            round_trip: RoundTrip::default(),
            heard: None,
            liveness: settings.ping_interval,
            ask_at: None,
            leaving: None,
            forgotten: false,
            over: false,
            events: VecDeque::new(),
            settings,
        }
    }

    /// There is a way to the daemon: a new connection, or a socket. Registers over it.
    pub fn connect(&mut self, now: Instant) {
        if self.over {
            return;
        }
        self.decoder = FrameDecoder::default();
        self.pongs.clear();
        self.acknowledge = false;
        self.heard = Some(now);
        self.ask_at = None;
        let last = self.chain.last();
        let known = self.session.filter(|_| !self.forgotten);
        self.greet(known.map(|Ticket { id, secret, .. }| Resume { id, secret, last }));
    }

    fn greet(&mut self, resume: Option<Resume>) {
        if resume.is_none() {
            self.wanted.greet();
        }
        let (nonce, attempt) = (self.random.u64(1..), Attempt::default());
        self.state = State::Greeting { nonce, cookie: None, resume, attempt };
    }

    /// The way to the daemon is gone: the connection closed, or broke.
    pub fn disconnected(&mut self) {
        if !matches!(self.state, State::Idle) {
            self.down(if self.leaving.is_some() { Cause::Left } else { Cause::Closed });
        }
    }

    /// The registration has ended.
    fn down(&mut self, cause: Cause) {
        self.state = State::Idle;
        self.ask_at = None;
        self.pings.retain(|ping| ping.asked);
        for ping in &mut self.pings {
            (ping.cookie, ping.attempt) = (None, Attempt::default());
        }
        if cause.is_final() || self.leaving.is_some() {
            self.over = true;
        }
        self.events.push_back(Event::Down(cause));
        if self.over {
            self.abandon();
        }
    }

    /// Gives up: reports what was sent and never confirmed, and what was never sent.
    fn abandon(&mut self) {
        for (ticket, sent) in self.sending.abandon() {
            let code = upcall_wire::frame::Code::Refused;
            self.events.push_back(match sent {
                true => Event::Unknown { ticket },
                false => Event::Rejected { ticket, code, text: "it was never sent".into() },
            });
        }
    }

    /// Whether the daemon has registered us.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Whether this is the end: [`Machine::connect`] does nothing any more.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What resumes the session, once there is one. What it says to have been dealt with is what was handed out as events.
    pub fn session(&self) -> Option<Ticket> {
        self.session.map(|session| Ticket { last: self.chain.last(), request: self.wanted.next_id(), ..session })
    }

    /// The largest payload of an input in bytes, while we are registered.
    pub fn max_message(&self) -> Option<usize> {
        match self.state {
            State::Ready { max_message, .. } => Some(max_message),
            _ => None,
        }
    }

    /// Whether [`Machine::send`] takes another input: 64 may wait for their receipts.
    pub fn has_room(&self) -> bool {
        self.sending.has_room() && self.leaving.is_none() && !self.over
    }

    /// Whether every input has been answered.
    pub fn is_settled(&self) -> bool {
        self.sending.is_empty()
    }

    /// Takes an input that is to be sent until it is confirmed; its topic may be empty, and is a topic otherwise. Returns
    /// the ticket that [`Event::Receipt`], [`Event::Rejected`] or [`Event::Unknown`] will name, or none without room.
    pub fn send(&mut self, topic: &str, payload: &[u8]) -> Option<u64> {
        self.has_room().then(|| self.sending.add(topic, payload))
    }

    /// Wants these filters, too. Returns what [`Event::Subscribed`] or [`Event::NotSubscribed`] will name.
    pub fn subscribe(&mut self, filters: &[&str]) -> u64 {
        self.wanted.change(true, filters)
    }

    /// Wants these filters no more. Returns what [`Event::Subscribed`] will name.
    pub fn unsubscribe(&mut self, filters: &[&str]) -> u64 {
        self.wanted.change(false, filters)
    }

    /// Asks for a sign of life, while registered. Returns what [`Event::Pong`] will name.
    pub fn ping(&mut self) -> u64 {
        self.ask(true)
    }

    /// Gives up waiting for an answer to [`Machine::ping`].
    pub fn forget_ping(&mut self, nonce: u64) {
        self.pings.retain(|ping| ping.nonce != nonce);
    }

    fn ask(&mut self, asked: bool) -> u64 {
        let nonce = self.random.u64(1..);
        self.pings.push(Ping { nonce, cookie: None, asked, attempt: Attempt::default() });
        nonce
    }

    /// Says goodbye, once every input has been answered. What is due until the daemon answers still comes.
    pub fn leave(&mut self) {
        if self.leaving.is_none() {
            self.leaving = Some(Attempt::default());
            if matches!(self.state, State::Idle) && !self.over {
                self.down(Cause::Left);
            }
        }
    }

    /// Says goodbye at once: what is not confirmed is given up.
    pub fn leave_now(&mut self) {
        self.abandon();
        self.leave();
    }

    /// The next thing that has happened.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn is_stream(&self) -> bool {
        self.settings.carrier == Carrier::Stream
    }
}

#[cfg(test)]
mod tests;
