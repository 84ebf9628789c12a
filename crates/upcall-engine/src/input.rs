//! Inputs on their way to the log: each by itself, or runs of those that one endpoint has sent.

use std::fmt;
use std::time::SystemTime;

use crate::{Accepted, Audience, Endpoint, EndpointId, Engine, InputTurn, Now};
use upcall_wire::address::{Peer, Transport};
use upcall_wire::format::{Fields, Format};
use upcall_wire::frame::{Frame, Send, Upcall};

/// The number of those who are not registered.
const NOBODY: u64 = 0;

/// Something that is to be appended.
pub(crate) struct Input<'a> {
    /// Its endpoint, if it has one: its key, its number, and whether upcalls are due to it.
    pub(crate) sender: Option<(EndpointId, u64, bool)>,
    pub(crate) origin: Origin,
    /// Empty for none.
    pub(crate) topic: &'a str,
    pub(crate) data: &'a [u8],
    /// It came as a frame.
    pub(crate) native: bool,
}

/// Where an input comes from, as `{from}` shows it.
#[derive(Clone, Copy)]
pub(crate) struct Origin(pub(crate) Transport, pub(crate) Peer);

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0, self.1)
    }
}

impl<'a> Input<'a> {
    /// As text endpoints get it otherwise, to `out`.
    #[inline(never)]
    fn render(&self, format: &Format, sequence: u64, now: Now, out: &mut Vec<u8>) {
        let &Input { ref origin, topic, data, native, .. } = self;
        out.clear();
        format.render(&Fields { data, sequence, topic, from: origin, time: now.wall }, out);
        if native && !out.ends_with(b"\n") {
            out.push(b'\n');
        }
    }
}

/// Whether text endpoints get such a message as it is, where the format is `{data}` and nothing else.
fn is_text(data: &[u8], native: bool) -> bool {
    !native || data.ends_with(b"\n")
}

impl Engine {
    /// Takes one input from an endpoint: appends it to the log, due to everyone whom the audience names. `None` if the
    /// endpoint is not, or no longer, heard.
    pub fn input(&mut self, now: Now, id: EndpointId, data: &[u8]) -> Option<Accepted> {
        let endpoint = self.registry.get_mut(id).filter(|endpoint| endpoint.leaving.is_none())?;
        endpoint.inputs += 1;
        endpoint.last_received = now.time.into();
        let (number, receives) = (endpoint.number, endpoint.receives);
        let origin = Origin(endpoint.transport, endpoint.peer);
        let input = Input { sender: Some((id, number, receives)), origin, topic: "", data, native: false };
        Some(self.append(now, &input))
    }

    /// Takes one input from somebody who is not registered, as listeners allow whose role is `input`.
    pub fn input_from(&mut self, now: Now, transport: Transport, peer: Peer, data: &[u8]) -> Accepted {
        self.append(now, &Input { sender: None, origin: Origin(transport, peer), topic: "", data, native: false })
    }

    /// Takes inputs from an endpoint for as long as there are messages and it is [its turn](Engine::request_input), which is asked
    /// before each is taken out of `messages`; returns how many.
    pub fn input_lines<'a>(&mut self, now: Now, id: EndpointId, mut messages: impl Iterator<Item = &'a [u8]>) -> u64 {
        let before = self.counters.inputs;
        while let Some(message) = self.take_run(now, id, false, &mut messages) {
            self.input(now, id, message);
        }
        self.counters.inputs - before
    }

    /// The id of the message that a native endpoint has to send next, if it may send any.
    pub fn next_message(&self, id: EndpointId) -> Option<u64> {
        let endpoint = self.registry.get(id).filter(|endpoint| endpoint.leaving.is_none())?;
        endpoint.native().filter(|native| native.sends).map(|native| native.session.messages.last() + 1)
    }

    /// The same as [`Engine::input_lines`] for the payloads of a native endpoint's messages, which count up from
    /// [`Engine::next_message`], want no receipt, have no topic and are no larger than allowed. None is taken where that is
    /// `None`.
    pub fn input_sends<'a>(&mut self, now: Now, id: EndpointId, mut messages: impl Iterator<Item = &'a [u8]>) -> u64 {
        let before = self.counters.inputs;
        while self.next_message(id).is_some()
            && let Some(payload) = self.take_run(now, id, true, &mut messages)
            && let Some(message) = self.next_message(id)
        {
            self.handle_frame(now, id, &Frame::Send(Send { id: message, receipt: false, topic: "", payload }));
        }
        self.counters.inputs - before
    }

    /// Takes inputs as long as they differ in nothing but their messages, and nothing has to make room for them: then little is
    /// left to do for each. Returns a message that is to be taken by itself; `None` when there is none, or it is not the turn of
    /// the endpoint any more.
    fn take_run<'a>(
        &mut self,
        now: Now,
        id: EndpointId,
        native: bool,
        messages: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Option<&'a [u8]> {
        if self.request_input(now, id) != InputTurn::Granted {
            return None;
        }
        let audience = self.settings.audience;
        let milliseconds = self.milliseconds(now);
        let endpoint = self.registry.get(id).filter(|endpoint| endpoint.leaving.is_none());
        let Some(endpoint) = endpoint.filter(|_| audience != Audience::Sender && !self.registry.has_filtered()) else {
            return messages.next();
        };
        let (source, origin) = (endpoint.number, Origin(endpoint.transport, endpoint.peer));
        let (has_text, verbatim) = (self.registry.has_text(), self.settings.format.is_verbatim());
        let intake = self.settings.intake();
        let first = self.log.next();
        let (mut sequence, mut appended, mut largest) = (first, self.appended, self.largest);
        let mut pens = self.log.pens(has_text, audience, source);
        let by_itself = loop {
            if appended as u64 >= intake {
                break None;
            }
            let Some(data) = messages.next() else { break None };
            let prev = (sequence - 1) as u32;
            let upcall = Upcall { sequence, source, time: milliseconds, prev, topic: "", payload: data };
            let frame = upcall.size();
            let text = has_text.then(|| {
                if verbatim && is_text(data, native) {
                    return data;
                }
                let input = Input { sender: None, origin, topic: "", data, native };
                input.render(&self.settings.format, sequence, now, &mut self.scratch);
                &self.scratch
            });
            let text_size = text.map_or(0, <[u8]>::len);
            if !pens.have_room(frame, text.map(<[u8]>::len)) {
                break Some(data);
            }
            if let Some(text) = text {
                pens.text.push(text.len()).copy_from_slice(text);
            }
            upcall.fill(pens.frames.push(frame));
            sequence += 1;
            appended += frame.max(text_size);
            largest = (largest.0.max(frame), largest.1.max(text_size));
        };
        let written = pens.written();
        self.log.note(written, audience);
        (self.appended, self.largest) = (appended, largest);
        self.note_run(now, id, native, first, sequence - first);
        by_itself
    }

    /// Counts a run of inputs.
    fn note_run(&mut self, now: Now, id: EndpointId, native: bool, first: u64, count: u64) {
        let receivers = self.registry.receivers();
        if count > 0
            && let Some(endpoint) = self.registry.get_mut(id)
        {
            endpoint.inputs += count;
            endpoint.last_received = now.time.into();
            let others = receivers - usize::from(endpoint.receives);
            if let Some(of_native) = endpoint.native_mut().filter(|_| native) {
                of_native.session.messages.accept_run(first, count, u32::try_from(others).unwrap_or(u32::MAX));
            }
            self.counters.inputs += count;
            self.broadcast.get_or_insert(first);
        }
    }

    pub(crate) fn append(&mut self, now: Now, input: &Input<'_>) -> Accepted {
        let (source, receives) = input.sender.map_or((NOBODY, false), |(_, number, receives)| (number, receives));
        let &Input { topic, data, .. } = input;
        let sequence = self.log.next();
        // Whoever gets everything got the one before; for the others it is changed on the way.
        let prev = (sequence - 1) as u32;
        let upcall = Upcall { sequence, source, time: self.milliseconds(now), prev, topic, payload: data };
        let frame = upcall.size();
        let has_text = self.registry.has_text();
        let is_text = self.settings.format.is_verbatim() && is_text(data, input.native);
        if has_text && !is_text {
            input.render(&self.settings.format, sequence, now, &mut self.scratch);
        }
        let text_size = has_text.then_some(if is_text { data.len() } else { self.scratch.len() });
        self.make_room(now, frame, text_size);
        let audience = self.settings.audience;
        let text = has_text.then(|| if is_text { data } else { &self.scratch });
        self.log.append(frame, |slot| upcall.fill(slot), text, audience, source);
        self.appended += frame.max(text_size.unwrap_or(0));
        self.largest = (self.largest.0.max(frame), self.largest.1.max(text_size.unwrap_or(0)));
        self.counters.inputs += 1;
        if audience == Audience::Sender {
            if let Some((id, ..)) = input.sender.filter(|_| receives) {
                self.mark_due(id, sequence);
            }
            return Accepted { sequence, due: usize::from(receives), others: 0 };
        }
        self.broadcast.get_or_insert(sequence);
        if !self.registry.has_filtered() {
            let others = self.registry.receivers() - usize::from(receives);
            return Accepted { sequence, due: others + usize::from(receives && audience == Audience::All), others };
        }
        let mut some = Vec::new();
        self.registry.find(topic, &mut some);
        let sender = input.sender.map(|(id, ..)| id);
        let everyone = self.registry.everyone();
        let gets_all = sender.and_then(|id| self.registry.get(id)).is_some_and(Endpoint::gets_everything);
        let own = gets_all || sender.is_some_and(|id| some.contains(&id));
        let others = everyone + some.len() - usize::from(own);
        for id in some {
            if audience == Audience::All || sender != Some(id) {
                self.mark_due(id, sequence);
            }
        }
        Accepted { sequence, due: others + usize::from(own && audience == Audience::All), others }
    }

    /// The time of day in milliseconds since 1970, as it was for the other inputs of the turn.
    fn milliseconds(&mut self, now: Now) -> u64 {
        if self.stamp.0 != now.wall {
            let since_1970 = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.stamp = (now.wall, since_1970.as_millis() as u64);
        }
        self.stamp.1
    }
}
