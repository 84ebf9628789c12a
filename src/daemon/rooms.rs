//! All that serves clients: the rooms, and the steps that span them.

use super::context::Context;
use super::datagrams::Datagrams;
use super::listeners::Listeners;
use super::log::{debug, info};
use super::streams::Streams;
use super::tokens::ConnectionKey;
use super::traffic;
use upcall_engine::{EndpointId, Event, Now};
use upcall_wire::address::Transport;

/// The rooms, and what they share.
pub(super) struct Rooms {
    pub(super) context: Context,
    pub(super) listeners: Listeners,
    pub(super) streams: Streams,
    pub(super) datagrams: Datagrams,
    /// Memory for the endpoints that may be written to in a turn.
    ready: Vec<EndpointId>,
}

impl Rooms {
    pub(super) fn new(context: Context, listeners: Listeners) -> Rooms {
        let datagrams = Datagrams::new(&context.config);
        Rooms { context, listeners, streams: Streams::new(), datagrams, ready: Vec::new() }
    }

    /// Writes what is due to every endpoint whose socket may take it.
    pub(super) fn flush(&mut self, now: Now) {
        let Rooms { context, listeners, streams, datagrams, ready } = self;
        context.engine.take_ready(ready);
        // Streams are written to at once. The datagram endpoints of one listener are sent to together.
        ready.retain(|id| match context.engine.endpoint(*id) {
            Some(endpoint) if !endpoint.transport.is_datagram() => {
                let (key, is_tcp) = (ConnectionKey::from_tag(endpoint.tag), endpoint.transport == Transport::Tcp);
                streams.write(context, now, *id, key, is_tcp);
                false
            }
            endpoint => endpoint.is_some(),
        });
        if !ready.is_empty() {
            datagrams.send(context, listeners, now, ready);
        }
    }

    /// Does what the engine has decided.
    pub(super) fn handle_events(&mut self, now: Now) {
        let Rooms { context, listeners, streams, datagrams, .. } = self;
        while let Some(event) = context.next_event() {
            match event {
                Event::Left { endpoint, reason, complete } => {
                    traffic::log_left(context, listeners, now, &endpoint, reason, complete);
                    if endpoint.transport.is_datagram() {
                        datagrams.left(listeners, &endpoint, reason, complete);
                    } else {
                        streams.left(context, now, ConnectionKey::from_tag(endpoint.tag), reason, complete);
                    }
                }
                Event::Unparked(tag) => streams.mark_readable(ConnectionKey::from_tag(tag), false),
                Event::InputsHeld(number) => {
                    debug!(context.logger, endpoint = number; "inputs wait for #{number}, which is slow");
                }
                Event::InputsReleased => debug!(context.logger, "inputs no longer wait"),
                Event::PatienceExhausted(number) => {
                    info!(
                        context.logger, endpoint = number;
                        "inputs go on without waiting for #{number}, whose patience is used up"
                    );
                }
            }
        }
    }
}
