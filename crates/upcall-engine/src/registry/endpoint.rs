//! An endpoint: a registered client, and where it stands between the log and its socket.
//!
//! It holds what `session`, `delivery` and `slow` keep for each endpoint. Only those modules know what these fields
//! mean.

use upcall_wire::address::{Peer, Transport};
use upcall_wire::frame::Welcome;
use upcall_wire::reason::Reason;

use crate::delivery::acknowledged::Acknowledged;
use crate::delivery::outbox::{MAX_CONTROL, Outbox};
use crate::id::ListenerNumber;
use crate::log::Rendition;
use crate::log::filters::FilterSet;
use crate::log::reading::{Cursor, Reading};
use crate::session::Session;
use crate::slow::Slow;
use crate::time::Second;

/// The protocol that a client is expected to speak, by the rules of its listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedProtocol {
    /// Text.
    Text,
    /// Either: the first byte decides, and a connection that sends nothing for one second speaks text.
    Auto,
    /// Native: nothing is due before its HELLO, which must arrive within ten seconds.
    Native,
}

/// What the registry needs to know about a client to register it.
#[derive(Debug, Clone, Copy)]
pub struct Registration {
    /// The protocol that it is expected to speak.
    pub protocol: ExpectedProtocol,
    /// The driver's own handle, which every [`Event`](crate::Event) about the endpoint carries.
    pub tag: u64,
    /// The listener that it uses.
    pub listener: ListenerNumber,
    /// The transport of that listener.
    pub transport: Transport,
    /// The client's address or credentials.
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
    /// Nothing is written until its protocol is known. Its place in the log is kept.
    Withheld,
    /// Everything that was due to it is written, and acknowledged if the transport requires that.
    CaughtUp,
    /// Everything that was due to it is sent, but not all of it is acknowledged.
    Unacknowledged,
    /// Something is due to it, and its socket may have room.
    Ready,
    /// Its socket is full.
    Blocked,
    /// Nothing can be written to its socket any more. What it sent may still be read.
    WriteClosed,
}

/// The protocol of an endpoint, as far as it is known. The engine decides it; the driver's decoder follows, and holds
/// only how bytes become messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DetectedProtocol {
    /// It has not sent anything yet.
    Undecided,
    Text,
    /// Native, without an accepted HELLO so far.
    AwaitingHello {
        /// It has sent something in frames, so its answers and its farewell are frames.
        sent_frames: bool,
    },
    Native,
}

/// What the engine keeps for a native endpoint.
#[derive(Debug)]
pub(crate) struct Native {
    pub(crate) session: Session,
    /// The last sequence that was due to it and is written, or was announced as the end of a gap.
    pub(crate) prev: u64,
    /// It may send inputs.
    pub(crate) sends: bool,
    /// The most detached sessions that are kept for its source.
    pub(crate) max_sessions: Option<usize>,
    /// It has sent BYE: its session cannot be resumed.
    pub(crate) ended: bool,
    /// It has left so many answers unread that nothing more is read from it until it has read them.
    pub(crate) answers_unread: bool,
    /// Acknowledged delivery, over datagrams only. Boxed, since streams have none.
    pub(crate) acknowledged: Option<Box<Acknowledged>>,
}

/// A registered client.
#[derive(Debug)]
pub struct Endpoint {
    /// Counts up from 1. A number is never reused.
    pub number: u64,
    /// The driver's handle.
    pub tag: u64,
    /// The listener that it uses.
    pub listener: ListenerNumber,
    /// The transport of that listener.
    pub transport: Transport,
    /// The client's address or credentials.
    pub peer: Peer,
    /// When it was registered.
    pub registered: Second,
    /// When something was last received from it.
    pub last_received: Second,
    /// The number of inputs that it sent.
    pub inputs: u64,
    /// The number of upcalls that were written to it, or that it acknowledged if the transport requires that.
    pub upcalls: u64,
    pub(crate) receives: bool,
    /// Its index in the registry's list of endpoints that receive everything, while there is such a list.
    pub(crate) everyone: u32,
    pub(crate) protocol: DetectedProtocol,
    /// Set while `protocol` is [`DetectedProtocol::Native`]. Not a field of that variant, which would need more memory.
    pub(crate) native: Option<Box<Native>>,
    pub(crate) delivery: Delivery,
    /// Not kept up to date while it is caught up, but never before its place at registration.
    pub(crate) cursor: Cursor,
    /// The first sequence that is not due to it: `u64::MAX` while it stays; its place if no upcalls are due to it.
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

    /// Whether its socket is full.
    pub fn is_behind(&self) -> bool {
        self.delivery == Delivery::Blocked
    }

    /// Whether it speaks the native protocol and its HELLO was accepted.
    pub fn is_native(&self) -> bool {
        self.native().is_some()
    }

    /// The name from its HELLO, if any.
    pub fn name(&self) -> Option<&str> {
        self.native().map(|native| &*native.session.name).filter(|name| !name.is_empty())
    }

    /// The WELCOME that was sent to it over datagrams. A repeated HELLO is answered with it again.
    pub fn welcome(&self) -> Option<&Welcome> {
        Some(self.native()?.acknowledged.as_ref()?.welcome())
    }

    /// Why it is about to leave, if it is.
    pub fn leaving(&self) -> Option<Reason> {
        self.leaving
    }

    /// Whether every input is due to it.
    pub(crate) fn receives_everything(&self) -> bool {
        self.receives && self.filters().is_none()
    }

    /// Whether there is nothing to send to it until something becomes due.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.delivery, Delivery::CaughtUp | Delivery::Unacknowledged)
    }

    /// Whether its HELLO has not been accepted yet.
    pub(crate) fn awaits_hello(&self) -> bool {
        matches!(self.protocol, DetectedProtocol::AwaitingHello { .. })
    }

    pub(crate) fn native(&self) -> Option<&Native> {
        self.native.as_deref()
    }

    pub(crate) fn native_mut(&mut self) -> Option<&mut Native> {
        self.native.as_deref_mut()
    }

    pub(crate) fn filters(&self) -> Option<&FilterSet> {
        self.native()?.session.filters.as_deref()
    }

    pub(crate) fn acknowledged_mut(&mut self) -> Option<&mut Acknowledged> {
        self.native_mut()?.acknowledged.as_deref_mut()
    }

    /// The rendition of the log that it reads.
    pub(crate) fn rendition(&self) -> Rendition {
        match self.protocol {
            DetectedProtocol::Undecided | DetectedProtocol::Text => Rendition::Text,
            DetectedProtocol::AwaitingHello { .. } | DetectedProtocol::Native => Rendition::Frames,
        }
    }

    /// What it receives of a log whose next sequence is `next`.
    pub(crate) fn reading(&self, next: u64) -> Reading<'_> {
        let filters = self.filters();
        let earlier = self.native().map_or(&[][..], |native| &native.session.earlier);
        Reading { cursor: self.cursor, until: self.until.min(next), reader: self.number, filters, earlier }
    }

    /// The first sequence that is neither partly sent to it nor passed over because it is not due to it.
    pub(crate) fn first_unsent(&self) -> u64 {
        self.cursor.sequence + u64::from(self.cursor.offset > 0)
    }

    /// The oldest place in the log that it still needs; its cursor if it needs nothing.
    pub(crate) fn floor(&self) -> Cursor {
        self.oldest_needed().unwrap_or(self.cursor)
    }

    /// The oldest place in the log that it still needs. `None` if all that it has not acknowledged are gaps, which need
    /// nothing of the log.
    pub(crate) fn oldest_needed(&self) -> Option<Cursor> {
        match (self.delivery, self.oldest_unacknowledged()) {
            (Delivery::Unacknowledged, None) => None,
            (_, oldest) => Some(oldest.map_or(self.cursor, |sequence| Cursor::at(sequence).min(self.cursor))),
        }
    }

    /// The first sequence that it has not acknowledged, if it must acknowledge.
    fn oldest_unacknowledged(&self) -> Option<u64> {
        self.native()?.acknowledged.as_ref()?.oldest()
    }

    /// Whether inputs may be held for it when it falls behind. Text datagrams are best effort, so nothing is held for
    /// them.
    pub(crate) fn may_hold_inputs(&self) -> bool {
        !self.transport.is_datagram() || self.is_native()
    }

    /// Records, and returns, whether it has left so many answers unread that nothing more may be read from it. For
    /// streams only: over datagrams, answers beyond the limit are dropped instead.
    pub(crate) fn note_unread_answers(&mut self) -> bool {
        let Some(native) = self.native.as_deref_mut().filter(|_| !self.transport.is_datagram()) else { return false };
        native.answers_unread = self.outbox.as_ref().is_some_and(|outbox| outbox.pending_control() >= MAX_CONTROL);
        native.answers_unread
    }
}

// There are thousands of endpoints, each in a slot that is four bytes larger, rounded up to a multiple of eight.
const _: () = assert!(size_of::<Endpoint>() <= 136);
