//! The sending half: what to write now, and when to act next.

use std::time::{Duration, Instant};

use fastrand::Rng;
use upcall_wire::frame::datagram::{Envelope, OVERHEAD};
use upcall_wire::frame::{Code, Frame, Hello, SEND_OVERHEAD};

use super::Machine;
use super::event::{DisconnectReason, Event};
use super::settings::Carrier;
use super::state::{Lifecycle, Ping, Registration};
use super::timing::{Attempt, RoundTrip};

/// Frames share a datagram up to this size, in bytes, which fits into one packet on nearly every path.
const SHARED_DATAGRAM: usize = 1_200;

/// Frames are appended to a stream's output up to this size, in bytes, per call.
const STREAM_CHUNK: usize = 256 << 10;

/// The minimum size of a HELLO over datagrams, in bytes. Until the client's address is proved, the answer must not be
/// larger than the HELLO.
const PADDED_HELLO: usize = 256;

/// How many times a BYE is sent over datagrams.
const MAX_BYES: u32 = 3;

/// The output of one call of [`Machine::transmit`] within the caller's buffer.
#[derive(Clone, Copy)]
struct Output {
    /// Where it begins.
    begin: usize,
    /// The length of the buffer while it has no frame: over datagrams, after the envelope.
    empty: usize,
}

impl Machine {
    /// Appends to `out` what to send now: bytes of the stream, or one datagram. Returns whether anything was appended;
    /// if so, call it again. What was appended counts as sent.
    pub fn transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        match self.registration {
            Registration::Disconnected => {}
            Registration::AwaitingWelcome { .. } => self.write_hello(now, out),
            Registration::Registered { key, max_message } => {
                let empty = match self.settings.carrier {
                    Carrier::Stream => begin,
                    Carrier::Datagrams(_) => {
                        Envelope { key, number: 0 }.write(out);
                        begin + OVERHEAD
                    }
                };
                self.write_frames(now, max_message, Output { begin, empty }, out);
                if out.len() == empty {
                    out.truncate(begin);
                }
            }
        }
        out.len() > begin
    }

    fn write_hello(&mut self, now: Instant, out: &mut Vec<u8>) {
        let is_stream = self.is_stream();
        let Registration::AwaitingWelcome { nonce, cookie, resume, attempt } = &mut self.registration else { return };
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
            hello.filters = self.subscriptions.of_hello();
            hello.since = settings.since;
        }
        let begin = out.len();
        Frame::Hello(hello.clone()).write(out);
        let missing = PADDED_HELLO.saturating_sub(out.len() - begin);
        if !is_stream && missing > 0 {
            out.truncate(begin);
            hello.padding = missing;
            Frame::Hello(hello).write(out);
        }
        attempt.sent(now, timeout(is_stream, &self.round_trip, &mut self.random));
    }

    /// Appends the frames that are due, as far as they fit into one output.
    fn write_frames(&mut self, now: Instant, max_message: usize, output: Output, out: &mut Vec<u8>) {
        let is_stream = self.is_stream();
        if std::mem::take(&mut self.ack_due)
            && let Some(ack) = self.arrivals.ack()
        {
            Frame::Ack(ack).write(out);
        }
        self.pongs.drain(..).for_each(|nonce| Frame::Pong { nonce }.write(out));
        for Ping { nonce, cookie, attempt, .. } in &mut self.pings {
            if attempt.is_due(now) {
                Frame::Ping { nonce: *nonce, cookie: *cookie }.write(out);
                attempt.sent(now, timeout(is_stream, &self.round_trip, &mut self.random));
            }
        }
        if let Some(request) = self.subscriptions.next(now) {
            request.write(out);
            let timeout = timeout(is_stream, &self.round_trip, &mut self.random);
            self.subscriptions.sent(|attempt| attempt.sent(now, timeout));
        }
        self.write_inputs(now, max_message, output, out);
        if self.inputs.is_empty()
            && let Lifecycle::Leaving(attempt) = &mut self.lifecycle
            && attempt.is_due(now)
        {
            Frame::Bye("closed").write(out);
            attempt.sent(now, timeout(is_stream, &self.round_trip, &mut self.random));
        }
    }

    fn write_inputs(&mut self, now: Instant, max_message: usize, output: Output, out: &mut Vec<u8>) {
        let is_stream = self.is_stream();
        while let Some(send) = self.inputs.next(now, is_stream) {
            let length = out.len() - output.begin + SEND_OVERHEAD + send.topic.len() + send.payload.len();
            let (largest, shared) = match self.settings.carrier {
                Carrier::Stream => (usize::MAX, STREAM_CHUNK),
                Carrier::Datagrams(largest) => (largest - OVERHEAD, SHARED_DATAGRAM),
            };
            let is_too_large =
                send.payload.len() > max_message || SEND_OVERHEAD + send.topic.len() + send.payload.len() > largest;
            if is_too_large {
                let size = send.payload.len();
                let text = format!("{size} bytes are too many to send here; at most {max_message} are allowed");
                match self.inputs.remove_unsent() {
                    Some(input) => self.events.push_back(Event::Rejected { input, code: Code::TooLarge, text }),
                    None => break,
                }
                continue;
            }
            if out.len() > output.empty && length > shared {
                break;
            }
            send.write(out);
            self.inputs.sent(now, timeout(is_stream, &self.round_trip, &mut self.random));
        }
    }

    /// When to call [`Machine::expire`] at the latest, if nothing else happens.
    pub fn due(&self) -> Option<Instant> {
        let request = match &self.registration {
            Registration::Disconnected => return None,
            Registration::AwaitingWelcome { attempt, .. } => return attempt.due(),
            Registration::Registered { .. } => self.subscriptions.attempt().and_then(Attempt::due),
        };
        let bye = match &self.lifecycle {
            Lifecycle::Leaving(attempt) if self.inputs.is_empty() => attempt.due(),
            _ => None,
        };
        let pings = self.pings.iter().filter_map(|ping| ping.attempt.due());
        let unresponsive = self.unresponsive_at();
        pings.chain([request, bye, self.inputs.due(), self.ping_at, unresponsive].into_iter().flatten()).min()
    }

    /// Does what is due by now. Pass received bytes to [`Machine::receive`] before, and call [`Machine::transmit`]
    /// after it.
    pub fn expire(&mut self, now: Instant) {
        if !self.is_ready() {
            return;
        }
        self.inputs.expire(now);
        if self.ping_at.is_some_and(|at| at <= now) {
            self.ping_at = Some(now + self.ping_interval);
            if self.pings.iter().all(|ping| ping.by_caller) {
                self.add_ping(false);
            }
        }
        if matches!(&self.lifecycle, Lifecycle::Leaving(bye) if bye.tries() >= MAX_BYES && bye.is_due(now)) {
            self.end(DisconnectReason::Left);
        } else if self.unresponsive_at().is_some_and(|at| at <= now) {
            self.end(DisconnectReason::Unresponsive);
        }
    }

    /// When the daemon counts as unresponsive: some time after the oldest request without an answer, and after the last
    /// received bytes.
    fn unresponsive_at(&self) -> Option<Instant> {
        let pings = self.pings.iter().filter_map(|ping| ping.attempt.since());
        let others = [self.inputs.since(), self.subscriptions.attempt().and_then(Attempt::since)];
        // On a stream the daemon may hold inputs for long although nothing is wrong. Only a PING counts.
        let others = others.into_iter().flatten().filter(|_| !self.is_stream());
        let asked = pings.chain(others).min()?;
        let timeout = match self.is_stream() {
            true => self.settings.response_timeout * 3,
            // The daemon does not announce the end of a lease.
            false => self.settings.response_timeout.min(self.ping_interval * 3),
        };
        Some(self.last_received.map_or(asked, |received| received.max(asked)) + timeout)
    }
}

/// When to send something again: never on a stream.
fn timeout(is_stream: bool, round_trip: &RoundTrip, random: &mut Rng) -> impl FnOnce(u32) -> Option<Duration> {
    move |tries| (!is_stream).then(|| round_trip.timeout(tries, random))
}
