//! A turn of the driver: which inputs it may handle, what is due, and how the turn ends.

use std::time::SystemTime;

use crate::deadlines::Deadline;
use crate::id::EndpointId;
use crate::{Engine, Now, Time};

/// Which endpoints' inputs may be handled now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// The inputs of every endpoint.
    Open,
    /// No input until the next turn: this turn has appended enough.
    Full,
    /// Only the inputs of this endpoint, for which inputs are held.
    Only(EndpointId),
    /// No input: inputs are held for several endpoints.
    Held,
}

/// Whether the inputs of one endpoint may be handled now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputTurn {
    /// They may.
    Granted,
    /// Not yet: see [`Engine::intake`].
    Held,
    /// Not yet: the endpoint reads, and they would put it further behind.
    /// [`Event::Unparked`](crate::Event::Unparked) reports when they may be handled.
    Parked,
}

/// What this turn has done so far, and what turns pass on to the next.
#[derive(Debug)]
pub(crate) struct Turn {
    /// What this turn has appended, in bytes.
    pub(crate) appended: usize,
    /// The first input of this turn that is due to more endpoints than its sender.
    pub(crate) broadcast: Option<u64>,
    /// The largest frame and text so far, of all turns, in bytes.
    pub(crate) largest: (usize, usize),
    /// The wall clock of this turn, also in milliseconds since 1970.
    stamp: (SystemTime, u64),
    /// A text on its way to the log.
    pub(crate) scratch: Vec<u8>,
    /// Frames on their way to an endpoint that cannot be written as they are in the log.
    pub(crate) copied: Vec<u8>,
}

impl Turn {
    pub(crate) fn new() -> Turn {
        Turn {
            appended: 0,
            broadcast: None,
            largest: (0, 0),
            stamp: (SystemTime::UNIX_EPOCH, 0),
            scratch: Vec::new(),
            copied: Vec::new(),
        }
    }

    /// The wall clock in milliseconds since 1970. Converted once a turn.
    pub(crate) fn milliseconds(&mut self, now: Now) -> u64 {
        if self.stamp.0 != now.wall {
            let since_1970 = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.stamp = (now.wall, since_1970.as_millis() as u64);
        }
        self.stamp.1
    }
}

impl Engine {
    /// Which endpoints' inputs may be handled now.
    pub fn intake(&self) -> Intake {
        if self.turn.appended as u64 >= self.settings.intake() {
            return Intake::Full;
        }
        match (self.laggards.holding(), self.laggards.only_holding()) {
            (0, _) => Intake::Open,
            (_, Some(id)) => Intake::Only(id),
            _ => Intake::Held,
        }
    }

    /// Whether the inputs of this endpoint may be handled now. Must be called before each input.
    pub fn request_input(&mut self, now: Now, id: EndpointId) -> InputTurn {
        match self.intake() {
            Intake::Open => {}
            Intake::Only(only) if only == id => {}
            _ => return InputTurn::Held,
        }
        let Some(endpoint) = self.registry.get_mut(id) else { return InputTurn::Granted };
        let may_lag = endpoint.slow.is_some();
        if endpoint.note_unread_answers() || (may_lag && self.park(now, id)) {
            InputTurn::Parked
        } else {
            InputTurn::Granted
        }
    }

    /// When to call [`Engine::expire`] next, if nothing else happens.
    pub fn deadline(&self) -> Option<Time> {
        self.deadlines.next().into_iter().chain(self.sessions.deadline()).chain(self.silence_deadline()).min()
    }

    /// Does what is due by now.
    pub fn expire(&mut self, now: Now) {
        while let Some((id, deadline)) = self.deadlines.due(now.time) {
            match deadline {
                Deadline::Message => self.check_message(now, id),
                Deadline::Patience => self.check_patience(now.time, id),
                Deadline::Farewell => self.end_farewell(now, id),
                Deadline::Parked => self.check_parked(now.time, id),
                Deadline::Recovery => self.recovery_due(now, id),
            }
        }
        self.expire_silences(now);
        self.sessions.expire(now.time);
        self.expire_leases(now);
    }

    /// Ends a turn, after everything ready was written as far as the sockets took it: decides for which endpoints
    /// inputs are held, and acts on those that are too far behind. May make endpoints ready again.
    pub fn end_turn(&mut self, now: Now) {
        self.turn.appended = 0;
        if !self.has_ready() && !self.detection.has_undecided() && self.laggards.furthest().is_none() {
            // Every endpoint has received everything, and none can request a text again.
            self.log.forget_unread_texts();
        }
        self.decide_endangered(now);
        self.act_on_laggards(now);
    }
}
