//! Log lines about clients that connect, join, speak native, or leave.

use upcall_engine::{Endpoint, EndpointId, ListenerNumber, Now, Second};
use upcall_wire::address::Peer;
use upcall_wire::escape::Escaped;
use upcall_wire::frame::Hello;
use upcall_wire::reason::{Reason, Refusal};

use super::context::Context;
use super::listeners::Listeners;
use super::log::{Count, info, log_at};
use crate::config::{Level, ListenerRole};

/// The level of lines about clients that connect and leave. On a listener that only receives inputs, they are details:
/// a health check may connect every few seconds and send nothing.
fn level(role: ListenerRole) -> Level {
    if role == ListenerRole::Input { Level::Debug } else { Level::Info }
}

/// The level for the listener with this number, according to its present rules.
fn level_of(listeners: &Listeners, number: ListenerNumber) -> Level {
    level(listeners.get(number).map_or(ListenerRole::Both, |listener| listener.rules.role))
}

/// Logs that a connection was registered.
pub(super) fn log_connected(context: &mut Context, listeners: &Listeners, id: EndpointId) {
    let Some(endpoint) = context.engine.endpoint(id) else { return };
    let (id, peer, count) = (endpoint.number, endpoint.peer, context.engine.registered());
    let Some(listener) = listeners.get(endpoint.listener) else { return };
    let name = &listener.rules.name;
    log_at!(
        level(listener.rules.role), context.logger, endpoint = id, listener = name, peer = peer;
        "#{id} connected from {peer} on {name}; {count} registered"
    );
}

/// Logs that a datagram peer was registered.
pub(super) fn log_joined(context: &mut Context, listeners: &Listeners, id: EndpointId) {
    let Some(endpoint) = context.engine.endpoint(id) else { return };
    let (id, peer, count) = (endpoint.number, endpoint.peer, context.engine.registered());
    let name = listeners.name_of(endpoint.listener);
    info!(
        context.logger, endpoint = id, listener = name, peer = peer;
        "#{id} joined from {peer} on {name}; {count} registered"
    );
}

/// Logs that an endpoint has got its WELCOME.
pub(super) fn log_welcome(context: &mut Context, listeners: &Listeners, id: EndpointId, hello: &Hello<'_>) {
    let Some(endpoint) = context.engine.endpoint(id) else { return };
    let name = endpoint.name().map_or(String::new(), |name| format!(" ({})", Escaped(name.as_bytes())));
    let how = if hello.resume.is_some() { "resumed its session" } else { "speaks native" };
    let Endpoint { number, transport, peer, .. } = endpoint;
    log_at!(
        level_of(listeners, endpoint.listener), context.logger, endpoint = number, peer = peer;
        "#{number}{name} {how}; {transport} from {peer}"
    );
}

/// Logs that a client is refused.
pub(super) fn log_refused(
    context: &mut Context,
    listeners: &Listeners,
    level: Level,
    number: ListenerNumber,
    peer: Peer,
    reason: Refusal,
) {
    let name = listeners.name_of(number);
    log_at!(
        level, context.logger, listener = name, peer = peer, reason = reason;
        "refused {peer} on {name}: {reason}"
    );
}

/// Logs that an endpoint has left the registry.
pub(super) fn log_left(
    context: &mut Context,
    listeners: &Listeners,
    now: Now,
    endpoint: &Endpoint,
    reason: Reason,
    complete: bool,
) {
    let Endpoint { number, peer, inputs, upcalls, .. } = endpoint;
    let (inputs, upcalls) = (Count(*inputs, "input"), Count(*upcalls, "upcall"));
    let lasted = Second::from(now.time).since(endpoint.registered);
    let rest = if complete || !reason.is_announced() { "" } else { ", it did not read the rest" };
    let remain = context.engine.registered();
    let name = listeners.name_of(endpoint.listener);
    let level = if reason == Reason::Closed { level_of(listeners, endpoint.listener) } else { Level::Info };
    log_at!(
        level, context.logger, endpoint = number, listener = name, peer = peer, reason = reason;
        "#{number} left: {reason}; {peer}, {inputs}, {upcalls}, {lasted} s{rest}; {remain} registered"
    );
}
