//! Inputs on their way to the log: single ones, or runs that one endpoint has sent.

use std::fmt;

use upcall_wire::address::{Peer, Transport};
use upcall_wire::format::{Fields, Format};
use upcall_wire::frame::{Frame, Send, Upcall};

use crate::id::EndpointId;
use crate::registry::endpoint::Endpoint;
use crate::{Audience, Engine, InputTurn, Now};

/// The source number in frames of an input that no registered endpoint has sent. Endpoints are numbered from 1.
const NOT_REGISTERED: u64 = 0;

/// The outcome of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its sequence.
    pub sequence: u64,
    /// How many endpoints it is due to.
    pub due: usize,
    /// The same number without its sender.
    pub others: usize,
}

/// The endpoint that sent an input.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    id: EndpointId,
    number: u64,
    /// Upcalls are due to it.
    receives: bool,
}

impl Sender {
    pub(crate) fn of(id: EndpointId, endpoint: &Endpoint) -> Sender {
        Sender { id, number: endpoint.number, receives: endpoint.receives }
    }
}

/// An input before it is appended.
pub(crate) struct Input<'a> {
    /// The endpoint that sent it, if it is registered.
    pub(crate) sender: Option<Sender>,
    pub(crate) origin: Origin,
    /// Empty for none.
    pub(crate) topic: &'a str,
    pub(crate) data: &'a [u8],
    /// It arrived in a frame.
    pub(crate) native: bool,
}

/// The origin of an input, as `{from}` in a format shows it.
#[derive(Clone, Copy)]
pub(crate) struct Origin(pub(crate) Transport, pub(crate) Peer);

impl Origin {
    pub(crate) fn of(endpoint: &Endpoint) -> Origin {
        Origin(endpoint.transport, endpoint.peer)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0, self.1)
    }
}

impl<'a> Input<'a> {
    /// Renders it for text endpoints, into `out`.
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

/// Whether text endpoints receive a message unchanged if the format is `{data}` and nothing else.
fn is_text(data: &[u8], native: bool) -> bool {
    !native || data.ends_with(b"\n")
}

impl Engine {
    /// Appends one input of an endpoint to the log, due to the audience of the settings. Returns `None` if the endpoint
    /// is about to leave or not registered, because nothing more is accepted from it.
    pub fn input(&mut self, now: Now, id: EndpointId, data: &[u8]) -> Option<Accepted> {
        let endpoint = self.registry.staying_mut(id)?;
        endpoint.inputs += 1;
        endpoint.last_received = now.time.into();
        let (sender, origin) = (Sender::of(id, endpoint), Origin::of(endpoint));
        let input = Input { sender: Some(sender), origin, topic: "", data, native: false };
        Some(self.append(now, &input))
    }

    /// Appends one input of a client that is not registered, as listeners with the role `input` allow.
    pub fn input_from(&mut self, now: Now, transport: Transport, peer: Peer, data: &[u8]) -> Accepted {
        self.append(now, &Input { sender: None, origin: Origin(transport, peer), topic: "", data, native: false })
    }

    /// Appends inputs of an endpoint while there are messages and [its turn](Engine::request_input) lasts, which is
    /// checked before each message is taken out of `messages`. `is_granted`: the caller has just asked for the first.
    /// Returns how many were appended.
    pub fn input_lines<'a>(
        &mut self,
        now: Now,
        id: EndpointId,
        mut is_granted: bool,
        mut messages: impl Iterator<Item = &'a [u8]>,
    ) -> u64 {
        let before = self.counters.inputs;
        while let Some(message) = self.append_run(now, id, false, std::mem::take(&mut is_granted), &mut messages) {
            self.input(now, id, message);
        }
        self.counters.inputs - before
    }

    /// The id of the message that a native endpoint must send next. `None` if it may not send any.
    pub fn next_message(&self, id: EndpointId) -> Option<u64> {
        let endpoint = self.registry.staying(id)?;
        endpoint.native().filter(|native| native.sends).map(|native| native.session.messages.last() + 1)
    }

    /// Like [`Engine::input_lines`], for the payloads of a native endpoint's messages: their ids count up from
    /// [`Engine::next_message`], they request no receipt, have no topic, and are not larger than allowed. Appends
    /// nothing if `next_message` is `None`.
    pub fn input_sends<'a>(
        &mut self,
        now: Now,
        id: EndpointId,
        mut is_granted: bool,
        mut messages: impl Iterator<Item = &'a [u8]>,
    ) -> u64 {
        let before = self.counters.inputs;
        while self.next_message(id).is_some()
            && let Some(payload) = self.append_run(now, id, true, std::mem::take(&mut is_granted), &mut messages)
            && let Some(message) = self.next_message(id)
        {
            self.handle_frame(now, id, &Frame::Send(Send { id: message, receipt: false, topic: "", payload }));
        }
        self.counters.inputs - before
    }

    /// Appends inputs while they differ only in their messages and displace no record: there is little work for each
    /// then. Returns a message that must be appended by itself; `None` if no message is left, or if the turn of the
    /// endpoint is over.
    fn append_run<'a>(
        &mut self,
        now: Now,
        id: EndpointId,
        native: bool,
        is_granted: bool,
        messages: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Option<&'a [u8]> {
        if !is_granted && self.request_input(now, id) != InputTurn::Granted {
            return None;
        }
        let audience = self.settings.audience;
        let milliseconds = self.turn.milliseconds(now);
        let endpoint = self.registry.staying(id);
        let Some(endpoint) = endpoint.filter(|_| audience != Audience::Sender && !self.registry.has_filtered()) else {
            return messages.next();
        };
        let (source, origin) = (endpoint.number, Origin::of(endpoint));
        let (has_text, verbatim) = (self.registry.has_text(), self.settings.format.is_verbatim());
        let intake = self.settings.intake();
        let first = self.log.next();
        let (mut sequence, mut appended, mut largest) = (first, self.turn.appended, self.turn.largest);
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
                input.render(&self.settings.format, sequence, now, &mut self.turn.scratch);
                &self.turn.scratch
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
        (self.turn.appended, self.turn.largest) = (appended, largest);
        self.note_run(now, id, native, first, sequence - first);
        by_itself
    }

    /// Records a run of inputs of one endpoint.
    fn note_run(&mut self, now: Now, id: EndpointId, native: bool, first: u64, count: u64) {
        let receivers = self.registry.receivers();
        if count > 0
            && let Some(endpoint) = self.registry.get_mut(id)
        {
            endpoint.inputs += count;
            endpoint.last_received = now.time.into();
            let others = receivers - usize::from(endpoint.receives);
            if let Some(sender) = endpoint.native_mut().filter(|_| native) {
                sender.session.messages.accept_run(first, count, u32::try_from(others).unwrap_or(u32::MAX));
            }
            self.counters.inputs += count;
            self.turn.broadcast.get_or_insert(first);
        }
    }

    /// Appends an input, and makes the endpoints ready to which it is due by their filters.
    pub(crate) fn append(&mut self, now: Now, input: &Input<'_>) -> Accepted {
        let (source, receives) =
            input.sender.map_or((NOT_REGISTERED, false), |sender| (sender.number, sender.receives));
        let &Input { topic, data, .. } = input;
        let sequence = self.log.next();
        // Correct for endpoints that receive everything. For the others, `prev` is patched when the frame is copied.
        let prev = (sequence - 1) as u32;
        let upcall = Upcall { sequence, source, time: self.turn.milliseconds(now), prev, topic, payload: data };
        let frame = upcall.size();
        let has_text = self.registry.has_text();
        let is_text = self.settings.format.is_verbatim() && is_text(data, input.native);
        if has_text && !is_text {
            input.render(&self.settings.format, sequence, now, &mut self.turn.scratch);
        }
        let text_size = has_text.then_some(if is_text { data.len() } else { self.turn.scratch.len() });
        self.make_room(now, frame, text_size);
        let audience = self.settings.audience;
        let text = has_text.then(|| if is_text { data } else { &self.turn.scratch });
        self.log.append(frame, |slot| upcall.fill(slot), text, audience, source);
        self.turn.appended += frame.max(text_size.unwrap_or(0));
        let (largest_frame, largest_text) = self.turn.largest;
        self.turn.largest = (largest_frame.max(frame), largest_text.max(text_size.unwrap_or(0)));
        self.counters.inputs += 1;
        if audience == Audience::Sender {
            if let Some(Sender { id, .. }) = input.sender.filter(|_| receives) {
                self.mark_due(id, sequence);
            }
            return Accepted { sequence, due: usize::from(receives), others: 0 };
        }
        self.turn.broadcast.get_or_insert(sequence);
        if !self.registry.has_filtered() {
            let others = self.registry.receivers() - usize::from(receives);
            return Accepted { sequence, due: others + usize::from(receives && audience == Audience::All), others };
        }
        let mut matching = Vec::new();
        self.registry.find(topic, &mut matching);
        let sender = input.sender.map(|sender| sender.id);
        let everyone = self.registry.everyone();
        let gets_all = sender.and_then(|id| self.registry.get(id)).is_some_and(Endpoint::receives_everything);
        let own = gets_all || sender.is_some_and(|id| matching.contains(&id));
        let others = everyone + matching.len() - usize::from(own);
        for id in matching {
            if audience == Audience::All || sender != Some(id) {
                self.mark_due(id, sequence);
            }
        }
        Accepted { sequence, due: others + usize::from(own && audience == Audience::All), others }
    }
}
