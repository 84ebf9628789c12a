//! The rooms together, and the steps that span several of them.

use upcall_engine::{EndpointId, Event, Now};
use upcall_wire::address::Transport;

use super::context::Context;
use super::datagrams::Datagrams;
use super::listeners::Listeners;
use super::log::{debug, info};
use super::streams::Streams;
use super::tokens::ConnectionKey;
use super::traffic;

/// The rooms, and the state that they share.
pub(super) struct Rooms {
    pub(super) context: Context,
    pub(super) listeners: Listeners,
    pub(super) streams: Streams,
    pub(super) datagrams: Datagrams,
    /// Reused for the endpoints that may be written to in a turn.
    ready: Vec<EndpointId>,
}

impl Rooms {
    pub(super) fn new(context: Context, listeners: Listeners) -> Rooms {
        let datagrams = Datagrams::new(&context.config);
        Rooms { context, listeners, streams: Streams::new(), datagrams, ready: Vec::new() }
    }

    /// Writes what is due to every endpoint whose socket may have room.
    pub(super) fn flush(&mut self, now: Now) {
        let Rooms { context, listeners, streams, datagrams, ready } = self;
        context.engine.take_ready(ready);
        // Streams are written here. Datagram endpoints remain, because those of one listener are sent to together.
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

    /// Handles the engine's events.
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
                    debug!(context.logger, endpoint = number; "holding inputs for #{number}, which is slow");
                }
                Event::InputsReleased => debug!(context.logger, "no longer holding inputs"),
                Event::PatienceExhausted(number) => {
                    info!(
                        context.logger, endpoint = number;
                        "no longer holding inputs for #{number}: its patience is used up"
                    );
                }
            }
        }
    }
}
