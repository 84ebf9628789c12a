//! The receiving half: handles what the daemon sends.

use std::time::{Duration, Instant};

use upcall_wire::frame::datagram::{Arrivals, Envelope};
use upcall_wire::frame::{self, Code, ErrorFrame, Frame, Role, VERSION, Welcome, kind};

use super::Machine;
use super::event::{DisconnectReason, Event, Upcall};
use super::ordering::Accepted;
use super::settings::{Carrier, ResumeTicket};
use super::state::Registration;
use super::timing::Attempt;

/// The largest payload of an upcall that is accepted, in bytes: far more than any daemon can be configured to send.
const MAX_UPCALL: usize = 256 << 20;

/// How many bytes of received text are kept when frames were expected, to find out what the text is.
const EXCERPT: usize = 80;

impl Machine {
    /// Processes received bytes: some bytes of the stream, or one datagram.
    pub fn receive(&mut self, now: Instant, bytes: &[u8]) {
        if matches!(self.registration, Registration::Disconnected) || bytes.is_empty() {
            return;
        }
        match self.settings.carrier {
            Carrier::Stream => self.receive_stream(now, bytes),
            Carrier::Datagrams(_) => self.receive_datagram(now, bytes),
        }
    }

    fn receive_stream(&mut self, now: Instant, mut bytes: &[u8]) {
        self.last_received = Some(now);
        let mut decoder = std::mem::take(&mut self.decoder);
        let is_first = matches!(self.registration, Registration::AwaitingWelcome { .. }) && !decoder.is_unfinished();
        if is_first && bytes.first() != Some(&0) {
            return self.end(DisconnectReason::NotNative(excerpt(bytes)));
        }
        while !matches!(self.registration, Registration::Disconnected) {
            match decoder.next(&mut bytes, MAX_UPCALL) {
                Ok(Some(frame)) => {
                    if self.handle(now, frame) == Accepted::Violation {
                        self.end(DisconnectReason::Protocol("an upcall does not follow the previous one".into()));
                    }
                }
                Ok(None) => break,
                Err(violation) => self.end(DisconnectReason::Protocol(violation.to_string())),
            }
        }
        self.decoder = decoder;
    }

    fn receive_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let Some((envelope, mut frames)) = Envelope::split(datagram) else {
            return self.receive_bare(now, datagram);
        };
        // With another key it comes from a third party, or from before the session was resumed.
        if !matches!(self.registration, Registration::Registered { key, .. } if key == envelope.key) {
            return;
        }
        self.last_received = Some(now);
        let mut is_complete = true;
        while !frames.is_empty() && self.is_ready() {
            match Frame::take(&mut frames).map(|frame| self.handle(now, frame)) {
                Ok(Accepted::Yes) => {}
                Ok(Accepted::NoRoom) => is_complete = false,
                Ok(Accepted::Violation) => {
                    return self
                        .end(DisconnectReason::Protocol("an upcall or a gap contradicts an earlier one".into()));
                }
                Err(violation) => return self.end(DisconnectReason::Protocol(violation.to_string())),
            }
        }
        // A datagram that could not be kept as a whole is not acknowledged, so that the daemon sends it again.
        if envelope.number > 0 && is_complete {
            self.arrivals.add(envelope.number);
            self.ack_due = true;
        }
    }

    /// Handles a datagram without an envelope: the answer to a HELLO, or the RETRY for a PING from a new address.
    fn receive_bare(&mut self, now: Instant, datagram: &[u8]) {
        let mut rest = datagram;
        let frame = Frame::take(&mut rest);
        match (&mut self.registration, frame) {
            (Registration::AwaitingWelcome { .. }, _) if datagram.first() != Some(&0) => {
                self.end(DisconnectReason::NotNative(excerpt(datagram)));
            }
            // Damaged and forged datagrams are ignored.
            (_, Err(_)) => {}
            (
                Registration::AwaitingWelcome { nonce, cookie, attempt, .. },
                Ok(Frame::Retry { nonce: of, cookie: new_cookie }),
            ) if of == *nonce && *cookie != Some(new_cookie) => {
                *cookie = Some(new_cookie);
                if let Some(sample) = attempt.sample(now) {
                    self.round_trip.add_sample(sample);
                }
                *attempt = Attempt::default();
                self.last_received = Some(now);
            }
            (Registration::AwaitingWelcome { nonce, .. }, Ok(Frame::Welcome(welcome))) if welcome.nonce == *nonce => {
                self.welcomed(now, welcome);
            }
            (Registration::AwaitingWelcome { nonce, .. }, Ok(Frame::Error(error))) if error.reference == *nonce => {
                self.hello_refused(error);
            }
            (Registration::Registered { .. }, Ok(Frame::Retry { nonce, cookie })) => {
                if let Some(ping) =
                    self.pings.iter_mut().find(|ping| ping.nonce == nonce && ping.cookie != Some(cookie))
                {
                    ping.cookie = Some(cookie);
                    ping.attempt = Attempt::default();
                }
            }
            _ => {}
        }
    }

    fn handle(&mut self, now: Instant, frame: Frame<'_>) -> Accepted {
        let is_stream = self.is_stream();
        match (&self.registration, frame) {
            (_, Frame::Skippable(_)) => {}
            (Registration::AwaitingWelcome { nonce, .. }, Frame::Welcome(welcome)) if welcome.nonce == *nonce => {
                self.welcomed(now, welcome);
            }
            (Registration::AwaitingWelcome { .. }, Frame::Error(error)) => self.hello_refused(error),
            // Also before WELCOME, because the daemon may shut down then.
            (_, Frame::Bye(reason)) => self.end(match self.is_leaving() {
                true => DisconnectReason::Left,
                false => DisconnectReason::Bye(reason.to_owned()),
            }),
            (Registration::Registered { .. }, frame) => return self.handle_registered(now, frame),
            (_, frame) if is_stream => self.unexpected(&frame),
            _ => {}
        }
        Accepted::Yes
    }

    fn handle_registered(&mut self, now: Instant, frame: Frame<'_>) -> Accepted {
        let events = &mut self.events;
        let mut out = |event| events.push_back(event);
        match frame {
            // Nothing is due to an endpoint that only sends, and the caller would not take it.
            Frame::Upcall(_) | Frame::Gap(_) if self.settings.role == Role::SendOnly => {}
            Frame::Upcall(upcall) => {
                let frame::Upcall { sequence, source, time, prev, topic, payload } = upcall;
                let (topic, payload) = (topic.to_owned(), payload.to_vec());
                return self.order.upcall(Upcall { sequence, source, time, topic, payload }, prev, &mut out);
            }
            Frame::Gap(gap) => return self.order.gap(gap.first, gap.last, gap.reason.into(), &mut out),
            Frame::Receipt(receipt) => {
                if let Some((input, sample)) = self.inputs.answered(receipt.id, now) {
                    let frame::Receipt { sequence, due, repeat, .. } = receipt;
                    out(Event::Receipt { input, sequence, due, repeat });
                    self.add_sample(sample);
                    self.start_input_timer(now);
                }
            }
            Frame::Subscribed { request, from, everything, filters } => {
                if let Some((event, attempt)) = self.subscriptions.subscribed(request, from, everything, &filters) {
                    out(event);
                    self.add_sample(attempt.sample(now));
                }
            }
            Frame::Ping { nonce, .. } => self.pongs.push(nonce),
            Frame::Pong { nonce } => {
                if let Some(at) = self.pings.iter().position(|ping| ping.nonce == nonce) {
                    let ping = self.pings.remove(at);
                    if ping.by_caller {
                        out(Event::Pong { nonce, round_trip: ping.attempt.elapsed(now) });
                    }
                    self.add_sample(ping.attempt.sample(now));
                }
            }
            Frame::Error(error) => self.handle_error(now, error),
            frame => self.unexpected(&frame),
        }
        Accepted::Yes
    }

    fn add_sample(&mut self, sample: Option<Duration>) {
        if let Some(sample) = sample {
            self.round_trip.add_sample(sample);
        }
    }

    fn start_input_timer(&mut self, now: Instant) {
        if !self.is_stream() {
            self.inputs.start_timer(now, &self.round_trip, &mut self.random);
        }
    }

    fn welcomed(&mut self, now: Instant, welcome: Welcome) {
        let Registration::AwaitingWelcome { resume, attempt, .. } = &self.registration else { return };
        if welcome.version != VERSION || (welcome.resumed && resume.is_none()) {
            return self.end(DisconnectReason::Protocol("the WELCOME does not match the HELLO".into()));
        }
        if let Some(sample) = attempt.sample(now) {
            self.round_trip.add_sample(sample);
        }
        let Welcome { resumed, key, id, secret, log, start, next, .. } = welcome;
        let before = self.session.replace(ResumeTicket { id, secret, log, last: 0, request: 0 });
        let last = self.order.last();
        self.registration = Registration::Registered { key, max_message: welcome.max_message as usize };
        self.session_refused = false;
        self.arrivals = Arrivals::default();
        self.ack_due = false;
        self.last_received = Some(now);
        self.ping_interval = match welcome.lease {
            0 => self.settings.ping_interval,
            lease => (Duration::from_millis(u64::from(lease)) / 3).min(self.settings.ping_interval),
        };
        self.ping_at = Some(now + self.ping_interval);
        let new_log = before.is_some_and(|before| before.log != log);
        let events = &mut self.events;
        let mut out = |event| events.push_back(event);
        out(Event::Welcomed { resumed, new_log, start, next });
        if resumed {
            self.order.resume(start);
            self.inputs.resume(welcome.last_message);
            self.subscriptions.resume();
        } else {
            self.inputs.begin().into_iter().for_each(|input| out(Event::Unknown { input }));
            self.order.begin(start, before.is_some().then_some(last).filter(|_| !new_log), &mut out);
            self.subscriptions.begin(start, &mut out);
        }
    }

    /// Handles the refusal of a HELLO.
    fn hello_refused(&mut self, error: ErrorFrame<'_>) {
        match &self.registration {
            Registration::AwaitingWelcome { resume: Some(_), .. } if error.code == Code::UnknownSession => {
                self.begin_hello(None);
            }
            // The log of a restarted daemon may not have reached the sequence yet that the HELLO resumes from.
            Registration::AwaitingWelcome { resume: Some(_), .. } if error.code == Code::Malformed => {
                self.session_refused = true;
                match self.settings.carrier {
                    Carrier::Stream => self.end(DisconnectReason::Closed),
                    Carrier::Datagrams(_) => self.begin_hello(None),
                }
            }
            _ => self.refused(error),
        }
    }

    fn refused(&mut self, error: ErrorFrame<'_>) {
        let ErrorFrame { code, about, text, .. } = error;
        self.end(DisconnectReason::Refused { code, about, text: text.to_owned() });
    }

    /// Handles an error about anything but a HELLO.
    fn handle_error(&mut self, now: Instant, error: ErrorFrame<'_>) {
        let ErrorFrame { code, about, reference, text } = error;
        let is_stream = self.is_stream();
        let events = &mut self.events;
        let mut out = |event| events.push_back(event);
        match (about, code) {
            (kind::SEND, Code::Busy) => self.inputs.busy(now, &mut self.random),
            (kind::SEND, Code::OutOfOrder) if !is_stream => {}
            _ if code.is_fatal() && is_stream => self.refused(error),
            (kind::SEND, _) => {
                if let Some((input, _)) = self.inputs.answered(reference, now) {
                    out(match code {
                        Code::Stale => Event::Unknown { input },
                        _ => Event::Rejected { input, code, text: text.to_owned() },
                    });
                    self.start_input_timer(now);
                }
            }
            (kind::SUBSCRIBE | kind::UNSUBSCRIBE, _) if self.subscriptions.refused(reference, code, text, &mut out) => {
            }
            // Over datagrams, the daemon may answer every repetition of a request.
            (kind::SUBSCRIBE | kind::UNSUBSCRIBE, _) if self.subscriptions.is_answered(reference) => {}
            _ => out(Event::DaemonError { code, text: text.to_owned() }),
        }
    }

    fn unexpected(&mut self, frame: &Frame<'_>) {
        let name = format!("{frame:?}");
        let name = name.split([' ', '(', '{']).next().unwrap_or_default().to_uppercase();
        self.end(DisconnectReason::Protocol(format!("{name} is not expected here")));
    }
}

fn excerpt(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(EXCERPT)].to_vec()
}
