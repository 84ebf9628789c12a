//! What is to be said to the daemon, and when.

use std::time::{Duration, Instant};

use super::event::{Cause, Event};
use super::timing::{Attempt, RoundTrip};
use super::{Carrier, GOODBYES, Machine, Ping, State};
use upcall_wire::frame::datagram::{Envelope, OVERHEAD};
use upcall_wire::frame::{Ack, Code, Frame, Hello, SEND_OVERHEAD};

/// Frames share a datagram up to this size, in bytes (DESIGN.md, section 7).
const SHARED: usize = 1_200;

/// Written to a stream at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// A HELLO over datagrams is no smaller, in bytes: what answers it before our address is proved is not larger.
const PADDED: usize = 256;

impl Machine {
    /// Appends to `out` what is to be sent now: bytes of the stream, or one datagram. Says whether there was anything; if so,
    /// there may be more. What was appended counts as sent.
    pub fn transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        match self.state {
            State::Idle => {}
            State::Greeting { .. } => self.say_hello(now, out),
            State::Ready { key, max_message } => {
                let empty = match self.settings.carrier {
                    Carrier::Stream => begin,
                    Carrier::Datagrams(_) => {
                        Envelope { key, number: 0 }.write(out);
                        begin + OVERHEAD
                    }
                };
                self.say(now, max_message, begin, empty, out);
                if out.len() == empty {
                    out.truncate(begin);
                }
            }
        }
        out.len() > begin
    }

    fn say_hello(&mut self, now: Instant, out: &mut Vec<u8>) {
        let is_stream = self.is_stream();
        let State::Greeting { nonce, cookie, resume, attempt } = &mut self.state else { return };
        if !attempt.is_due(now) {
            return;
        }
        let settings = &self.settings;
        let mut hello = Hello {
            role: settings.role,
            name: &settings.name,
            token: settings.token.as_deref(),
            resume: *resume,
            cookie: *cookie,
            ..Hello::new(*nonce)
        };
        if resume.is_none() {
            hello.filters = self.wanted.initial();
            hello.since = settings.since;
        }
        let begin = out.len();
        Frame::Hello(hello.clone()).write(out);
        let missing = PADDED.saturating_sub(out.len() - begin);
        if !is_stream && missing > 0 {
            out.truncate(begin);
            hello.padding = missing;
            Frame::Hello(hello).write(out);
        }
        attempt.said(now, again(is_stream, &self.round_trip, &mut self.random));
    }

    /// Appends frames as long as they fit: to what began at `begin`, and holds nothing at the length `empty`.
    fn say(&mut self, now: Instant, max_message: usize, begin: usize, empty: usize, out: &mut Vec<u8>) {
        let is_stream = self.is_stream();
        if std::mem::take(&mut self.acknowledge)
            && let Some(Ack { largest, bitmap }) = self.arrivals.ack()
        {
            Frame::Ack(Ack { largest, bitmap }).write(out);
        }
        self.pongs.drain(..).for_each(|nonce| Frame::Pong { nonce }.write(out));
        for Ping { nonce, cookie, attempt, .. } in &mut self.pings {
            if attempt.is_due(now) {
                Frame::Ping { nonce: *nonce, cookie: *cookie }.write(out);
                attempt.said(now, again(is_stream, &self.round_trip, &mut self.random));
            }
        }
        if let Some(frame) = self.wanted.next(now) {
            frame.write(out);
            let timeout = again(is_stream, &self.round_trip, &mut self.random);
            self.wanted.said(|attempt| attempt.said(now, timeout));
        }
        self.say_inputs(now, max_message, begin, empty, out);
        if self.sending.is_empty()
            && let Some(leaving) = self.leaving.as_mut().filter(|leaving| leaving.is_due(now))
        {
            Frame::Bye("closed").write(out);
            leaving.said(now, again(is_stream, &self.round_trip, &mut self.random));
        }
    }

    fn say_inputs(&mut self, now: Instant, max_message: usize, begin: usize, empty: usize, out: &mut Vec<u8>) {
        let is_stream = self.is_stream();
        while let Some(send) = self.sending.next(now, is_stream) {
            let length = out.len() - begin + SEND_OVERHEAD + send.topic.len() + send.payload.len();
            let (largest, shared) = match self.settings.carrier {
                Carrier::Stream => (usize::MAX, CHUNK),
                Carrier::Datagrams(largest) => (largest - OVERHEAD, SHARED),
            };
            let too_large =
                send.payload.len() > max_message || SEND_OVERHEAD + send.topic.len() + send.payload.len() > largest;
            if too_large {
                let size = send.payload.len();
                let text = format!("{size} bytes are more than what may be sent here, which is {max_message} at most");
                match self.sending.refuse() {
                    Some(ticket) => self.events.push_back(Event::Rejected { ticket, code: Code::TooLarge, text }),
                    None => break,
                }
                continue;
            }
            if out.len() > empty && length > shared {
                break;
            }
            send.write(out);
            self.sending.sent(now, again(is_stream, &self.round_trip, &mut self.random));
        }
    }

    /// When to call [`Machine::expire`] at the latest, as things are.
    pub fn due(&self) -> Option<Instant> {
        let greeting = match &self.state {
            State::Idle => return None,
            State::Greeting { attempt, .. } => return attempt.due(),
            State::Ready { .. } => self.wanted.waiting().and_then(Attempt::due),
        };
        let leaving = self.leaving.as_ref().filter(|_| self.sending.is_empty()).and_then(Attempt::due);
        let pings = self.pings.iter().filter_map(|ping| ping.attempt.due());
        let silence = self.silent_at();
        pings.chain([greeting, leaving, self.sending.due(), self.ask_at, silence].into_iter().flatten()).min()
    }

    /// Does what is due by now; what came before should have been received. What is to be sent then is transmitted.
    pub fn expire(&mut self, now: Instant) {
        if !self.is_ready() {
            return;
        }
        self.sending.expire(now);
        if self.ask_at.is_some_and(|at| at <= now) {
            self.ask_at = Some(now + self.liveness);
            if !self.pings.iter().any(|ping| !ping.asked) {
                self.ask(false);
            }
        }
        if self.leaving.as_ref().is_some_and(|leaving| leaving.tries() >= GOODBYES && leaving.is_due(now)) {
            self.down(Cause::Left);
        } else if self.silent_at().is_some_and(|at| at <= now) {
            self.down(Cause::Silent);
        }
    }

    /// When to believe that nobody is there: long after something was asked, and something was heard.
    fn silent_at(&self) -> Option<Instant> {
        let pings = self.pings.iter().filter_map(|ping| ping.attempt.since());
        let others = [self.sending.since(), self.wanted.waiting().and_then(Attempt::since)];
        // On a stream inputs may be held back for long, with everything in order.
        let others = others.into_iter().flatten().filter(|_| !self.is_stream());
        let asked = pings.chain(others).min()?;
        let patience = match self.is_stream() {
            true => self.settings.patience * 3,
            // The end of a lease is not announced.
            false => self.settings.patience.min(self.liveness * 3),
        };
        Some(self.heard.map_or(asked, |heard| heard.max(asked)) + patience)
    }
}

/// When to say something again: never on a stream.
fn again(is_stream: bool, round_trip: &RoundTrip, random: &mut fastrand::Rng) -> impl FnOnce(u32) -> Option<Duration> {
    move |tries| (!is_stream).then(|| round_trip.timeout(tries, random))
}
