//! What comes from the daemon, and what it means.

use std::time::{Duration, Instant};

use super::event::{Cause, Event, Upcall};
use super::ordering::Taken;
use super::{Carrier, Machine, State, Ticket};
use upcall_wire::frame::datagram::{Arrivals, Envelope};
use upcall_wire::frame::{self, Code, ErrorFrame, Frame, Role, VERSION, Welcome, kind};

/// The largest upcall that is taken, in bytes: far more than any daemon can be told to send.
const MAX_UPCALL: usize = 256 << 20;

/// Kept of what is no frame, to say why.
const EXCERPT: usize = 80;

impl Machine {
    /// Takes what came: some bytes of the stream, or one datagram.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) {
        if matches!(self.state, State::Idle) || bytes.is_empty() {
            return;
        }
        match self.settings.carrier {
            Carrier::Stream => self.receive_stream(now, bytes),
            Carrier::Datagrams(_) => self.receive_datagram(now, bytes),
        }
    }

    fn receive_stream(&mut self, now: Instant, mut bytes: &[u8]) {
        self.heard = Some(now);
        let mut decoder = std::mem::take(&mut self.decoder);
        if self.session_is_new() && !decoder.is_unfinished() && bytes.first() != Some(&0) {
            return self.down(Cause::NotNative(excerpt(bytes)));
        }
        while !matches!(self.state, State::Idle) {
            match decoder.next(&mut bytes, MAX_UPCALL) {
                Ok(Some(frame)) => {
                    let taken = self.take(now, frame);
                    if taken == Taken::Broken {
                        self.down(Cause::Protocol("an upcall does not follow on the one before".into()));
                    }
                }
                Ok(None) => break,
                Err(violation) => self.down(Cause::Protocol(violation.to_string())),
            }
        }
        self.decoder = decoder;
    }

    fn session_is_new(&self) -> bool {
        matches!(self.state, State::Greeting { .. })
    }

    fn receive_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let Some((opening, mut frames)) = Envelope::split(datagram) else {
            return self.receive_bare(now, datagram);
        };
        // Without the key it is a stranger's, or from before the session was resumed.
        if !matches!(self.state, State::Ready { key, .. } if key == opening.key) {
            return;
        }
        self.heard = Some(now);
        let mut complete = true;
        while !frames.is_empty() && self.is_ready() {
            match Frame::take(&mut frames).map(|frame| self.take(now, frame)) {
                Ok(Taken::Yes) => {}
                Ok(Taken::NoRoom) => complete = false,
                Ok(Taken::Broken) => return self.down(Cause::Protocol("an upcall contradicts itself".into())),
                Err(violation) => return self.down(Cause::Protocol(violation.to_string())),
            }
        }
        // What could not be kept must come again, and so was not here.
        if opening.number > 0 && complete {
            self.arrivals.add(opening.number);
            self.acknowledge = true;
        }
    }

    /// A datagram without an opening: the answer to a HELLO, or a question where we are.
    fn receive_bare(&mut self, now: Instant, datagram: &[u8]) {
        let mut rest = datagram;
        let frame = Frame::take(&mut rest);
        match (&mut self.state, frame) {
            (State::Greeting { .. }, _) if datagram.first() != Some(&0) => {
                self.down(Cause::NotNative(excerpt(datagram)));
            }
            // Neither what is damaged nor what is forged is worth an answer.
            (_, Err(_)) => {}
            (State::Greeting { nonce, cookie, attempt, .. }, Ok(Frame::Retry { nonce: of, cookie: proof }))
                if of == *nonce && *cookie != Some(proof) =>
            {
                *cookie = Some(proof);
                if let Some(sample) = attempt.sample(now) {
                    self.round_trip.measured(sample);
                }
                *attempt = super::Attempt::default();
                self.heard = Some(now);
            }
            (State::Greeting { nonce, .. }, Ok(Frame::Welcome(welcome))) if welcome.nonce == *nonce => {
                self.welcomed(now, welcome);
            }
            (State::Greeting { nonce, .. }, Ok(Frame::Error(error))) if error.reference == *nonce => {
                self.refused(error);
            }
            (State::Ready { .. }, Ok(Frame::Retry { nonce, cookie })) => {
                if let Some(ping) =
                    self.pings.iter_mut().find(|ping| ping.nonce == nonce && ping.cookie != Some(cookie))
                {
                    ping.cookie = Some(cookie);
                    ping.attempt = super::Attempt::default();
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, now: Instant, frame: Frame<'_>) -> Taken {
        let is_stream = self.is_stream();
        match (&self.state, frame) {
            (_, Frame::Skippable(_)) => {}
            (State::Greeting { nonce, .. }, Frame::Welcome(welcome)) if welcome.nonce == *nonce => {
                self.welcomed(now, welcome);
            }
            (State::Greeting { .. }, Frame::Error(error)) => self.refused(error),
            // A stream that ends before it has begun.
            (_, Frame::Bye(reason)) => {
                self.down(if self.leaving.is_some() { Cause::Left } else { Cause::Bye(reason.to_owned()) });
            }
            (State::Ready { .. }, frame) => return self.take_ready(now, frame),
            (_, frame) if is_stream => self.unexpected(&frame),
            _ => {}
        }
        Taken::Yes
    }

    fn take_ready(&mut self, now: Instant, frame: Frame<'_>) -> Taken {
        let events = &mut self.events;
        let mut out = |event| events.push_back(event);
        match frame {
            // Nothing is due to who only sends, and it would not be taken.
            Frame::Upcall(_) | Frame::Gap(_) if self.settings.role == Role::SendOnly => {}
            Frame::Upcall(upcall) => {
                let frame::Upcall { sequence, source, time, prev, topic, payload } = upcall;
                let (topic, payload) = (topic.to_owned(), payload.to_vec());
                return self.chain.upcall(Upcall { sequence, source, time, topic, payload }, prev, &mut out);
            }
            Frame::Gap(gap) => return self.chain.gap(gap.first, gap.last, gap.reason.into(), &mut out),
            Frame::Receipt(receipt) => {
                if let Some((ticket, sample)) = self.sending.answered(receipt.id, now) {
                    let frame::Receipt { sequence, due, repeat, .. } = receipt;
                    out(Event::Receipt { ticket, sequence, due, repeat });
                    self.measured(sample);
                    self.rewind(now);
                }
            }
            Frame::Subscribed { request, from, everything, filters } => {
                if let Some((event, attempt)) = self.wanted.subscribed(request, from, everything, &filters) {
                    out(event);
                    self.measured(attempt.sample(now));
                }
            }
            Frame::Ping { nonce, .. } => self.pongs.push(nonce),
            Frame::Pong { nonce } => {
                if let Some(at) = self.pings.iter().position(|ping| ping.nonce == nonce) {
                    let ping = self.pings.remove(at);
                    if ping.asked {
                        out(Event::Pong { nonce, round_trip: ping.attempt.elapsed(now) });
                    }
                    self.measured(ping.attempt.sample(now));
                }
            }
            Frame::Error(error) => self.complaint(now, error),
            frame => self.unexpected(&frame),
        }
        Taken::Yes
    }

    fn measured(&mut self, sample: Option<Duration>) {
        if let Some(sample) = sample {
            self.round_trip.measured(sample);
        }
    }

    fn rewind(&mut self, now: Instant) {
        if !self.is_stream() {
            self.sending.wind(now, &self.round_trip, &mut self.random);
        }
    }

    fn welcomed(&mut self, now: Instant, welcome: Welcome) {
        let State::Greeting { resume, attempt, .. } = &self.state else { return };
        if welcome.version != VERSION || (welcome.resumed && resume.is_none()) {
            return self.down(Cause::Protocol("the welcome is not for what was asked".into()));
        }
        if let Some(sample) = attempt.sample(now) {
            self.round_trip.measured(sample);
        }
        let Welcome { resumed, key, id, secret, log, start, next, .. } = welcome;
        let before = self.session.replace(Ticket { id, secret, log, last: 0, request: 0 });
        let last = self.chain.last();
        self.state = State::Ready { key, max_message: welcome.max_message as usize };
        self.forgotten = false;
        self.arrivals = Arrivals::default();
        self.acknowledge = false;
        self.heard = Some(now);
        self.liveness = match welcome.lease {
            0 => self.settings.ping_interval,
            lease => (Duration::from_millis(u64::from(lease)) / 3).min(self.settings.ping_interval),
        };
        self.ask_at = Some(now + self.liveness);
        let new_log = before.is_some_and(|before| before.log != log);
        let events = &mut self.events;
        let mut out = |event| events.push_back(event);
        out(Event::Welcomed { resumed, new_log, start, next });
        if resumed {
            self.chain.resume(start);
            self.sending.resume(welcome.last_message);
            self.wanted.resume();
        } else {
            self.sending.begin().into_iter().for_each(|ticket| out(Event::Unknown { ticket }));
            self.chain.begin(start, before.is_some().then_some(last).filter(|_| !new_log), &mut out);
            self.wanted.begin(start, &mut out);
        }
    }

    /// A HELLO was refused.
    fn refused(&mut self, error: ErrorFrame<'_>) {
        match &self.state {
            State::Greeting { resume: Some(_), .. } if error.code == Code::UnknownSession => self.greet(None),
            // A daemon that has been restarted may not have said as much yet as we claim to have heard.
            State::Greeting { resume: Some(_), .. } if error.code == Code::Malformed => {
                self.forgotten = true;
                match self.settings.carrier {
                    Carrier::Stream => self.down(Cause::Closed),
                    Carrier::Datagrams(_) => self.greet(None),
                }
            }
            _ => self.denied(error),
        }
    }

    fn denied(&mut self, error: ErrorFrame<'_>) {
        let ErrorFrame { code, about, text, .. } = error;
        self.down(Cause::Refused { code, about, text: text.to_owned() });
    }

    /// Something else was refused.
    fn complaint(&mut self, now: Instant, error: ErrorFrame<'_>) {
        let ErrorFrame { code, about, reference, text } = error;
        let is_stream = self.is_stream();
        let events = &mut self.events;
        let mut out = |event| events.push_back(event);
        match (about, code) {
            (kind::SEND, Code::Busy) => self.sending.held(now, &mut self.random),
            (kind::SEND, Code::OutOfOrder) if !is_stream => {}
            _ if code.is_fatal() && is_stream => self.denied(error),
            (kind::SEND, _) => {
                if let Some((ticket, _)) = self.sending.answered(reference, now) {
                    out(match code {
                        Code::Stale => Event::Unknown { ticket },
                        _ => Event::Rejected { ticket, code, text: text.to_owned() },
                    });
                    self.rewind(now);
                }
            }
            (kind::SUBSCRIBE | kind::UNSUBSCRIBE, _) if self.wanted.refused(reference, code, text, &mut out) => {}
            // Over datagrams a request may be answered as often as it was said.
            (kind::SUBSCRIBE | kind::UNSUBSCRIBE, _) if self.wanted.is_answered(reference) => {}
            _ => out(Event::Complaint { code, text: text.to_owned() }),
        }
    }

    fn unexpected(&mut self, frame: &Frame<'_>) {
        let name = format!("{frame:?}");
        let name = name.split([' ', '(', '{']).next().unwrap_or_default().to_uppercase();
        self.down(Cause::Protocol(format!("{name} cannot come here")));
    }
}

fn excerpt(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(EXCERPT)].to_vec()
}
