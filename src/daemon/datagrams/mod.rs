//! Datagrams: received, and either dropped and counted, or admitted by the gate and handled. Sent in batches over the
//! socket that the peers of a listener share; a Unix peer that does not read gets a socket of its own.
//!
//! Knows the listeners, whose sockets it uses. Must not know connections.
//!
//! The struct is defined here; the other files add methods to it, one part of its work each, and call each other's. These
//! are the only arrows inside this folder that point back up.

mod answer;
mod held;
mod native_in;
mod native_out;
mod own_socket;
mod peers;
mod register;
mod send;
mod source;
mod text_in;
mod text_out;

use upcall_engine::{Dropped, Endpoint, EndpointId, Event, Gate, Intake, ListenerNumber, Now};
use upcall_wire::frame::{SEND_OVERHEAD, datagram};
use upcall_wire::reason::Reason;
use upcall_wire::topic::MAX_TOPIC;

use super::context::Context;
use super::listeners::{ListenerSocket, Listeners};
use super::log::{debug, warning};
use super::tokens::PeerKey;
use super::traffic;
use crate::config::{Config, ListenerProtocol, ListenerRole};
use crate::net::datagram::{BatchBuffer, Datagram, Inbox, Received};
use held::HeldDatagrams;
use native_out::Outgoing;
use peers::DatagramPeers;
use source::PeerSource;
use text_out::PlannedRun;

/// At most this many batches are received from one listener in a turn, so that the clients of others are served too.
const CALLS: usize = 8;

/// The largest datagram that is received, in bytes. A Unix datagram can be as large as the sender's send buffer allows.
const LARGEST: usize = 1 << 20;

/// All datagram peers, with the buffers for sending and receiving.
pub(super) struct Datagrams {
    peers: DatagramPeers,
    gate: Gate,
    /// `None` while its datagrams are handled, because handling them borrows all other fields.
    inbox: Option<Box<Inbox>>,
    /// Reused for each batch that is sent.
    batches: BatchBuffer,
    held: HeldDatagrams,
    /// Reused for native datagrams that are about to be sent.
    outgoing: Outgoing,
    /// Reused for the runs that each endpoint of a group gets in one round.
    runs: Vec<PlannedRun>,
}

/// An inbox for the messages of this configuration. One call receives no more than one turn may append to the log, even
/// if all datagrams have the maximum length when rendered.
fn inbox(config: &Config) -> Box<Inbox> {
    let max_message = config.upcall.max_message;
    let rendered = config.upcall.format.max_rendered(max_message).max(1);
    // The native protocol adds something to each message.
    let largest = max_message + datagram::OVERHEAD + SEND_OVERHEAD + MAX_TOPIC;
    let count = (config.slow_consumer.max_behind / 4 / rendered).clamp(1, 64);
    Box::new(Inbox::new(count, largest.min(LARGEST)))
}

impl Datagrams {
    pub(super) fn new(config: &Config) -> Datagrams {
        Datagrams {
            peers: DatagramPeers::default(),
            gate: Gate::new(),
            inbox: Some(inbox(config)),
            batches: BatchBuffer::new(),
            held: HeldDatagrams::default(),
            outgoing: Outgoing::default(),
            runs: Vec::new(),
        }
    }

    /// Uses another configuration from now on.
    pub(super) fn reconfigure(&mut self, config: &Config) {
        self.inbox = Some(inbox(config));
    }

    /// Whether held datagrams can be handled now.
    pub(super) fn have_pending_inputs(&self, context: &Context) -> bool {
        !self.held.is_empty() && context.drain.is_none() && context.engine.intake() == Intake::Open
    }

    /// Whether datagrams are received now. While inputs are held, and during a drain, they stay in the socket's buffer,
    /// unless there may be acknowledgements among them.
    pub(super) fn may_receive(&self, context: &Context, number: ListenerNumber) -> bool {
        match context.engine.intake() {
            _ if context.drain.is_some() => self.peers.has_native(number),
            Intake::Open => true,
            Intake::Full => false,
            Intake::Held | Intake::Only(_) => self.peers.has_native(number),
        }
    }

    /// Handles the held datagrams while the engine accepts inputs.
    pub(super) fn receive_held(&mut self, context: &mut Context, listeners: &mut Listeners, now: Now) {
        while context.engine.intake() == Intake::Open
            && let Some(held) = self.held.pop()
        {
            if let Err(dropped) = self.handle(context, listeners, now, held.listener, held.datagram()) {
                context.engine.counters_mut().count_dropped(dropped);
            }
        }
    }

    /// Receives from every listener that may have datagrams, while the engine accepts inputs.
    pub(super) fn receive(&mut self, context: &mut Context, listeners: &mut Listeners, now: Now) {
        let mut from = 0;
        while let Some(number) = listeners.next_pending(from, false) {
            from = number + 1;
            for _ in 0..CALLS {
                if !self.may_receive(context, number) || !self.receive_batch(context, listeners, now, number) {
                    break;
                }
            }
        }
    }

    /// Receives and handles one batch. Returns whether there may be another.
    pub(super) fn receive_batch(
        &mut self,
        context: &mut Context,
        listeners: &mut Listeners,
        now: Now,
        number: ListenerNumber,
    ) -> bool {
        let Some(listener) = listeners.get_mut(number) else { return false };
        let ListenerSocket::Datagrams(socket) = &listener.socket else { return false };
        let Some(mut inbox) = self.inbox.take() else { return false };
        let capacity = inbox.capacity();
        let more = match socket.receive(&mut inbox) {
            Received::Datagrams(count) => {
                // If the inbox is not full, the socket is drained, and the poller reports further datagrams.
                listener.pending = count == capacity;
                for datagram in inbox.iter() {
                    if let Err(dropped) = self.handle(context, listeners, now, number, datagram) {
                        context.engine.counters_mut().count_dropped(dropped);
                        let (name, reason) = (listeners.name_of(number), dropped.name());
                        debug!(
                            context.logger, listener = name, reason = reason;
                            "dropped a datagram on {name}: {reason}"
                        );
                    }
                }
                count == capacity
            }
            Received::PeerError(_) => true,
            Received::Drained => {
                listener.pending = false;
                false
            }
            Received::NoMemory => {
                listener.pending = false;
                context.timers.listener_no_memory.add(now.time, number);
                false
            }
            Received::Broken(error) => {
                listener.pending = false;
                let address = listener.socket.address();
                warning!(context.logger, listener = listener.rules.name; "cannot receive on {address}: {error}");
                false
            }
        };
        self.inbox = Some(inbox);
        more
    }

    fn handle(
        &mut self,
        context: &mut Context,
        listeners: &mut Listeners,
        now: Now,
        number: ListenerNumber,
        datagram: Datagram<'_>,
    ) -> Result<(), Dropped> {
        let Some(listener) = listeners.get(number) else { return Ok(()) };
        if datagram.truncated {
            return Err(Dropped::TooLarge);
        }
        if datagram.looped {
            return Err(Dropped::Looped);
        }
        let is_held = matches!(context.engine.intake(), Intake::Held | Intake::Only(_));
        let held_from = is_held.then(|| datagram.from.clone());
        let source = match PeerSource::new(number, listener, datagram.from) {
            Ok(source) => source,
            // The sender cannot be answered, but inputs of this listener are not answered anyway.
            Err((Dropped::NoAddress, Some(peer))) if listener.rules.role == ListenerRole::Input => {
                let transport = listener.socket.address().transport();
                return text_in::unregistered_input(context, now, transport, peer, datagram.bytes, true);
            }
            Err((dropped, _)) => return Err(dropped),
        };
        // A native datagram identifies its endpoint by a key, so the source address is not looked up here.
        if datagram.bytes.first() == Some(&0) && listener.rules.protocol != ListenerProtocol::Text {
            return self.native_datagram(context, listeners, now, &source, datagram.bytes);
        }
        self.text_datagram(context, listeners, now, &source, datagram.bytes, held_from)
    }

    /// Removes an endpoint whose name now belongs to another user, or whose peer starts a new session.
    fn replace(&mut self, context: &mut Context, listeners: &Listeners, now: Now, former: EndpointId) {
        self.remove(context, listeners, now, former, Reason::Reset);
    }

    /// Removes an endpoint now instead of at the end of the turn, so that its name is free. Other events are postponed
    /// to the end of the turn, because they may concern connections.
    fn remove(&mut self, context: &mut Context, listeners: &Listeners, now: Now, id: EndpointId, reason: Reason) {
        context.engine.connection_lost(now, id, reason);
        while let Some(event) = context.engine.next_event() {
            match event {
                Event::Left { endpoint, reason, complete } if endpoint.transport.is_datagram() => {
                    traffic::log_left(context, listeners, now, &endpoint, reason, complete);
                    self.left(listeners, &endpoint, reason, complete);
                }
                other => context.postpone(other),
            }
        }
    }

    /// Handles an endpoint that has left the registry. `complete`: everything that was due to it was sent.
    pub(super) fn left(&mut self, listeners: &Listeners, endpoint: &Endpoint, reason: Reason, complete: bool) {
        // A peer that closed the session itself gets a farewell too. A peer that seems to be gone gets none.
        if !complete && (reason.is_announced() || reason == Reason::Closed) {
            self.send_farewell(listeners, endpoint, reason);
        }
        self.peers.remove(PeerKey::from_tag(endpoint.tag));
    }
}
