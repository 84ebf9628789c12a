//! How a reload changes the listeners: what is new is bound before anything old is closed.

use std::io;

use crate::config::{self, Config};
use crate::daemon::listeners::{ListenerSocket, Listeners, binding, explain, log_closed, watch};
use crate::daemon::log::{error, warning};
use crate::daemon::rooms::Rooms;
use crate::net::datagram::DatagramSocket;
use upcall_engine::{Endpoint, EndpointId, Engine, Intake, ListenerNumber};
use upcall_wire::address::{Address, Transport, UnixName};
use upcall_wire::reason::Reason;

/// Ends the message where nothing has changed.
pub(super) const KEPT: &str = "; the old configuration stays";

/// At most this many batches of datagrams are received from a listener that goes: a client may be sending without end.
const LAST_BATCHES: usize = 64;

/// Listeners that were closed to make way for others, and their rules.
type Replaced = Vec<(ListenerNumber, config::ListenerConfig)>;

/// What becomes of the listeners.
struct Changes {
    /// They stay, under these rules.
    staying: Vec<(ListenerNumber, config::ListenerConfig)>,
    going: Vec<ListenerNumber>,
    coming: Vec<config::ListenerConfig>,
}

/// Binds what is new before anything old goes. What cannot be bound beside an old listener that goes is bound in its
/// place. Nothing can fail any more once the first of the old ones has changed.
pub(super) fn change_listeners(rooms: &mut Rooms, config: &Config) -> Result<(), String> {
    let Changes { staying, going, coming } = compare(&rooms.listeners, &config.listeners);
    let mut bound = Vec::new();
    let mut replaced = Vec::new();
    for rules in coming {
        let number = rooms.listeners.new_number();
        let socket = bind_among(rooms, &rules, &going, &mut replaced);
        match socket.and_then(|socket| watch(&rooms.context.poller, number, &socket).map(|()| socket)) {
            Ok(socket) => bound.push((number, socket, rules)),
            Err(message) => {
                drop(bound);
                return Err(match restore(rooms, replaced) {
                    0 => message + KEPT,
                    lost => format!("{message}; the old configuration stays, but for {lost} of its listeners"),
                });
            }
        }
    }
    for (number, rules) in staying {
        change_rules(rooms, number, rules);
    }
    for (number, socket, rules) in bound {
        rooms.listeners.adopt(&mut rooms.context.logger, number, socket, rules);
    }
    for number in going {
        stop_listening(rooms, number);
    }
    Ok(())
}

/// Compares the listeners with what is configured. By name first: several may be configured with port 0, and differ
/// only in their names.
fn compare(listeners: &Listeners, new: &[config::ListenerConfig]) -> Changes {
    let mut coming = new.to_vec();
    let mut going: Vec<_> = listeners.iter().map(|(number, listener)| (number, &listener.rules)).collect();
    let mut staying = Vec::new();
    for by_name in [true, false] {
        going.retain(|(number, old)| {
            let same = |new: &config::ListenerConfig| is_same_socket(old, new) && (!by_name || old.name == new.name);
            let found = coming.iter().position(same);
            staying.extend(found.map(|index| (*number, coming.remove(index))));
            found.is_none()
        });
    }
    Changes { staying, going: going.into_iter().map(|(number, _)| number).collect(), coming }
}

/// Whether a listener can go on under other rules without being bound again.
fn is_same_socket(old: &config::ListenerConfig, new: &config::ListenerConfig) -> bool {
    old.address == new.address && old.dual_stack == new.dual_stack
}

/// Whether a listener, by the address that it really has, could be in the way of a new one.
fn may_collide(old: &Address, new: &Address) -> bool {
    match (old, new) {
        (Address::Inet { transport: a, port: p, .. }, Address::Inet { transport: b, port: q, .. }) => a == b && p == q,
        // A path is one file, whatever kind of socket it is.
        (Address::Unix { name: a @ UnixName::Path(_), .. }, Address::Unix { name: b, .. }) => a == b,
        (old, new) => old == new,
    }
}

/// Binds a new listener, beside the old ones that go or, where that cannot be, in their place.
fn bind_among(
    rooms: &mut Rooms,
    rules: &config::ListenerConfig,
    going: &[ListenerNumber],
    replaced: &mut Replaced,
) -> Result<ListenerSocket, String> {
    match rooms.listeners.bind_socket(rules) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        other => return other.map_err(|error| explain(rules, &error)),
    }
    if let Some(name) = rooms.listeners.holder(|address| may_collide(address, &rules.address)) {
        // A socket that we have not bound stays when our listener goes.
        let advice = "choose another address, or restart both with another ListenStream= or ListenDatagram=";
        return Err(format!(
            "cannot listen on {} ({}): the service manager holds the socket \"{name}\" there; {advice}",
            rules.address, rules.name
        ));
    }
    let in_the_way = rooms
        .listeners
        .iter()
        .filter(|(number, listener)| going.contains(number) && may_collide(listener.socket.address(), &rules.address));
    let in_the_way: Vec<ListenerNumber> = in_the_way.map(|(number, _)| number).collect();
    if rules.address.transport() == Transport::Udp {
        // What the old ones still have to send, farewells above all, leaves by their own sockets.
        let old: Vec<_> = in_the_way.iter().filter_map(|number| rooms.listeners.datagram_socket(*number)).collect();
        let bound = DatagramSocket::bind_beside(&rules.address, binding(rules), &old);
        return bound.map(ListenerSocket::Datagrams).map_err(|error| explain(rules, &error));
    }
    for number in in_the_way {
        make_way(rooms, number, replaced);
    }
    rooms.listeners.bind_socket(rules).map_err(|error| explain(rules, &error))
}

/// Closes an old listener that may be in the way of a new one. Its endpoints stay for now. A datagram socket only gives
/// up its path: farewells are still to be sent over it.
fn make_way(rooms: &mut Rooms, number: ListenerNumber, replaced: &mut Replaced) {
    let Rooms { context, listeners, streams, .. } = rooms;
    streams.accept_all(context, listeners, context.clock.now(), number);
    let Some(mut listener) = listeners.take(number) else { return };
    replaced.push((number, listener.rules.clone()));
    match &mut listener.socket {
        ListenerSocket::Streams(_) => log_closed(&mut context.logger, &listener.socket, &listener.rules),
        ListenerSocket::Datagrams(datagrams) => {
            datagrams.release_path();
            listeners.put_back(number, listener);
        }
    }
}

/// Binds again what was closed in vain. Returns how many listeners could not be bound.
fn restore(rooms: &mut Rooms, replaced: Replaced) -> usize {
    let Rooms { context, listeners, .. } = rooms;
    let mut lost = 0;
    for (number, rules) in replaced {
        listeners.take(number);
        match listeners.open(&context.poller, number, &rules) {
            Ok(socket) => listeners.adopt(&mut context.logger, number, socket, rules),
            Err(message) => {
                lost += 1;
                error!(context.logger, "{message}: this listener is lost until the next reload");
            }
        }
        // The old socket will not tell the endpoints that wait for it when there is room.
        for endpoint in endpoints_of(&context.engine, number, |endpoint| endpoint.transport.is_datagram()) {
            context.engine.writable(endpoint);
        }
    }
    lost
}

fn change_rules(rooms: &mut Rooms, number: ListenerNumber, rules: config::ListenerConfig) {
    let Rooms { context, listeners, .. } = rooms;
    let is_inherited = listeners.is_inherited(number);
    let Some(listener) = listeners.get_mut(number) else { return };
    let changes = binding(&listener.rules) != binding(&rules);
    if changes && is_inherited {
        let address = &rules.address;
        warning!(context.logger, listener = rules.name; "mode and group of {address} are the service manager's");
    } else if changes && let Err(error) = listener.socket.set_access(binding(&rules)) {
        warning!(context.logger, listener = rules.name; "cannot change mode or group of {}: {error}", rules.address);
    }
    let sends = rules.role != config::ListenerRole::Output;
    listener.rules = rules;
    // The engine checks what native endpoints send. For text, the new rules are looked up with each input.
    for endpoint in endpoints_of(&context.engine, number, Endpoint::is_native) {
        context.engine.set_may_send(endpoint, sends);
    }
}

fn stop_listening(rooms: &mut Rooms, number: ListenerNumber) {
    let now = rooms.context.clock.now();
    let Rooms { context, listeners, streams, datagrams, .. } = rooms;
    // The senders of what has come before now are still registered.
    for _ in 0..LAST_BATCHES {
        if context.engine.intake() != Intake::Open || !datagrams.receive_batch(context, listeners, now, number) {
            break;
        }
    }
    for endpoint in endpoints_of(&context.engine, number, |_| true) {
        context.engine.leave(now, endpoint, Reason::ListenerRemoved);
        streams.discard_inputs(&context.engine, endpoint);
    }
    // Over a datagram socket, the farewells have to leave before it is closed.
    rooms.flush(now);
    let engine = &mut rooms.context.engine;
    for endpoint in endpoints_of(engine, number, |endpoint| endpoint.transport.is_datagram()) {
        // What it has not acknowledged cannot be sent again.
        engine.connection_lost(now, endpoint, Reason::ListenerRemoved);
    }
    rooms.handle_events(now);
    rooms.listeners.remove(&mut rooms.context, number);
}

/// The endpoints of a listener that fulfil a condition.
fn endpoints_of(engine: &Engine, number: ListenerNumber, condition: impl Fn(&Endpoint) -> bool) -> Vec<EndpointId> {
    let found = engine.endpoints().filter(|(_, endpoint)| endpoint.listener == number && condition(endpoint));
    found.map(|(id, _)| id).collect()
}
