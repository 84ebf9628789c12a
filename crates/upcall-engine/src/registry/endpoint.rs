//! An endpoint: a registered client, and where it stands between the log and its socket.

use crate::delivery::acknowledged::Acknowledged;
use crate::delivery::outbox::{MAX_CONTROL, Outbox};
use crate::id::ListenerNumber;
use crate::log::Rendition;
use crate::log::filters::Filters;
use crate::log::reading::{Cursor, Reading};
use crate::session::Session;
use crate::slow::Slow;
use crate::time::Second;
use upcall_wire::address::{Peer, Transport};
use upcall_wire::frame::Welcome;
use upcall_wire::reason::Reason;

/// What a client is expected to speak, by the rules of its listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedProtocol {
    /// It is text.
    Text,
    /// The first byte decides; a connection that sends nothing for a second speaks text.
    Auto,
    /// It has to be native: nothing is due before its HELLO, for which it has ten seconds.
    Native,
}

/// Who wants to be registered.
#[derive(Debug, Clone, Copy)]
pub struct Registration {
    /// What it is expected to speak.
    pub protocol: ExpectedProtocol,
    /// The driver's own handle, which comes back with every [`crate::Event`].
    pub tag: u64,
    /// Where it came in.
    pub listener: ListenerNumber,
    /// How it came.
    pub transport: Transport,
    /// Who it is.
    pub peer: Peer,
    /// Whether upcalls are due to it; `false` for the clients of a listener whose role is `input`.
    pub receives: bool,
    /// The most endpoints that its listener may have.
    pub max_per_listener: Option<usize>,
    /// The most endpoints that its listener may have from one address (IPv4), /64 network (IPv6) or user (Unix).
    pub max_per_source: Option<usize>,
}

/// Where an endpoint stands between the log and its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It is not known yet what it speaks: its place in the log is kept.
    Undecided,
    /// Everything that was due to it is written, and acknowledged where that is done.
    CaughtUp,
    /// Everything that was due to it is sent, but not acknowledged.
    Unacknowledged,
    /// Something is due to it, and its socket has not refused it yet.
    Ready,
    /// Its socket takes no more for now.
    Blocked,
    /// Its socket will never take anything again; what it sent may still be read.
    WriteClosed,
}

/// What an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Nobody knows yet.
    Undecided,
    Text,
    /// Native, but it has not been welcomed.
    AwaitingHello,
    Native,
}

/// What the engine knows of a native endpoint.
#[derive(Debug)]
pub(crate) struct Native {
    pub(crate) session: Session,
    /// The last sequence that was due to it and is written, or was announced as the end of a gap.
    pub(crate) prev: u64,
    /// It may send inputs.
    pub(crate) sends: bool,
    /// The most sessions that are kept without an endpoint from where it comes from.
    pub(crate) max_sessions: Option<usize>,
    /// It has said BYE: its session cannot be resumed.
    pub(crate) ended: bool,
    /// Nothing more is read from it until it has read what it was told.
    pub(crate) answers_unread: bool,
    /// How it is reached over datagrams. Boxed, since streams have none.
    pub(crate) acknowledged: Option<Box<Acknowledged>>,
}

/// A registered client.
#[derive(Debug)]
pub struct Endpoint {
    /// Counts up from 1 and is never used again.
    pub number: u64,
    /// The driver's handle.
    pub tag: u64,
    /// Where it came in.
    pub listener: ListenerNumber,
    /// How it came.
    pub transport: Transport,
    /// Who it is.
    pub peer: Peer,
    /// When it was registered.
    pub registered: Second,
    /// When it was last heard.
    pub last_received: Second,
    /// Inputs that came from it.
    pub inputs: u64,
    /// Upcalls that were written to it.
    pub upcalls: u64,
    pub(crate) receives: bool,
    /// Where it stands in the list of those who get everything, if there is one.
    pub(crate) everyone: u32,
    pub(crate) protocol: Protocol,
    /// It has said something in frames.
    pub(crate) begun: bool,
    /// Beside the speech, and not in it: so it takes less room.
    pub(crate) native: Option<Box<Native>>,
    pub(crate) delivery: Delivery,
    /// Meaningless while it is caught up, but never behind where it was when it was registered.
    pub(crate) cursor: Cursor,
    /// It gets nothing from here on: `u64::MAX` while it stays, and never beyond its place if no upcalls are due to it.
    pub(crate) until: u64,
    pub(crate) leaving: Option<Reason>,
    pub(crate) slow: Option<Box<Slow>>,
    pub(crate) outbox: Option<Box<Outbox>>,
}

impl Endpoint {
    /// Whether upcalls are due to it.
    pub fn receives(&self) -> bool {
        self.receives
    }

    /// Whether every input is due to it.
    pub(crate) fn gets_everything(&self) -> bool {
        self.receives && self.filters().is_none()
    }

    /// Whether nothing is to be sent to it now, but for what may become due.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.delivery, Delivery::CaughtUp | Delivery::Unacknowledged)
    }

    /// Whether its socket is full.
    pub fn is_behind(&self) -> bool {
        self.delivery == Delivery::Blocked
    }

    /// Whether it speaks the native protocol, and has been welcomed.
    pub fn is_native(&self) -> bool {
        self.native().is_some()
    }

    /// What it calls itself, if it has said that.
    pub fn name(&self) -> Option<&str> {
        self.native().map(|native| &*native.session.name).filter(|name| !name.is_empty())
    }

    /// The WELCOME that it got over datagrams, to be sent again where the same HELLO comes again.
    pub fn welcome(&self) -> Option<&Welcome> {
        Some(self.native()?.acknowledged.as_ref()?.welcome())
    }

    pub(crate) fn native(&self) -> Option<&Native> {
        self.native.as_deref()
    }

    pub(crate) fn native_mut(&mut self) -> Option<&mut Native> {
        self.native.as_deref_mut()
    }

    pub(crate) fn filters(&self) -> Option<&Filters> {
        self.native()?.session.filters.as_deref()
    }

    pub(crate) fn acknowledged_mut(&mut self) -> Option<&mut Acknowledged> {
        self.native_mut()?.acknowledged.as_deref_mut()
    }

    /// Which rendition of the log it reads.
    pub(crate) fn rendition(&self) -> Rendition {
        match self.protocol {
            Protocol::Undecided | Protocol::Text => Rendition::Text,
            Protocol::AwaitingHello | Protocol::Native => Rendition::Frames,
        }
    }

    /// The first sequence that has not begun to be sent to it, or been passed over because it is not due to it.
    pub(crate) fn first_unsent(&self) -> u64 {
        self.cursor.sequence + u64::from(self.cursor.offset > 0)
    }

    /// What of the log it still needs begins here.
    pub(crate) fn floor(&self) -> Cursor {
        self.oldest_needed().unwrap_or(self.cursor)
    }

    /// The same; none if nothing of the log is needed for what it has yet to acknowledge: that is a gap.
    pub(crate) fn oldest_needed(&self) -> Option<Cursor> {
        match (self.delivery, self.oldest()) {
            (Delivery::Unacknowledged, None) => None,
            (_, oldest) => Some(oldest.map_or(self.cursor, |sequence| Cursor::at(sequence).min(self.cursor))),
        }
    }

    /// The first sequence of what it has yet to acknowledge.
    fn oldest(&self) -> Option<u64> {
        self.native()?.acknowledged.as_ref()?.oldest()
    }

    /// Whether inputs wait for it when it falls behind: not if all it is promised is best effort.
    pub(crate) fn is_patient(&self) -> bool {
        !self.transport.is_datagram() || self.is_native()
    }

    /// Whether it has left so much control unread that nothing more is to be read from it; takes note of that.
    pub(crate) fn note_unread_answers(&mut self) -> bool {
        let Some(native) = self.native.as_deref_mut().filter(|_| !self.transport.is_datagram()) else { return false };
        native.answers_unread = self.outbox.as_ref().is_some_and(|outbox| outbox.pending_control() >= MAX_CONTROL);
        native.answers_unread
    }

    /// Why it is about to leave, if it is.
    pub fn leaving(&self) -> Option<Reason> {
        self.leaving
    }

    pub(crate) fn reading(&self, next: u64) -> Reading<'_> {
        let filters = self.filters();
        let earlier = self.native().map_or(&[][..], |native| &native.session.earlier);
        Reading { cursor: self.cursor, until: self.until.min(next), reader: self.number, filters, earlier }
    }
}

// There are thousands, each in a slot with four bytes more, which is a multiple of eight.
const _: () = assert!(size_of::<Endpoint>() <= 136);
