//! How a reload changes the listeners: new ones are bound before old ones are closed.

use std::io;

use upcall_engine::{Endpoint, EndpointId, Engine, Intake, ListenerNumber};
use upcall_wire::address::{Address, Transport, UnixName};
use upcall_wire::reason::Reason;

use crate::config::{self, Config};
use crate::daemon::listeners::{ListenerSocket, Listeners, binding, explain, log_closed, watch};
use crate::daemon::log::{error, warning};
use crate::daemon::rooms::Rooms;
use crate::net::datagram::DatagramSocket;

/// The end of the message of a reload that has changed nothing.
pub(super) const KEPT: &str = "; the old configuration stays";

/// At most this many batches of datagrams are received from a listener before it is removed, because a client may send
/// without end.
const LAST_BATCHES: usize = 64;

/// Listeners that were closed so that a new one could have their address, and their rules.
type Replaced = Vec<(ListenerNumber, config::ListenerConfig)>;

/// How the listeners change.
struct Changes {
    /// They keep their sockets, and get these rules.
    kept: Vec<(ListenerNumber, config::ListenerConfig)>,
    removed: Vec<ListenerNumber>,
    added: Vec<config::ListenerConfig>,
}

/// Binds the new listeners before it changes or removes old ones, so that nothing can fail afterwards. If a new one
/// cannot be bound beside an old one that is removed anyway, the old one is closed first, and restored on a failure.
pub(super) fn change_listeners(rooms: &mut Rooms, config: &Config) -> Result<(), String> {
    let Changes { kept, removed, added } = compare(&rooms.listeners, &config.listeners);
    let mut bound = Vec::new();
    let mut replaced = Vec::new();
    for rules in added {
        let number = rooms.listeners.new_number();
        let socket = bind_among(rooms, &rules, &removed, &mut replaced);
        match socket.and_then(|socket| watch(&rooms.context.poller, number, &socket).map(|()| socket)) {
            Ok(socket) => bound.push((number, socket, rules)),
            Err(message) => {
                drop(bound);
                return Err(match restore(rooms, replaced) {
                    0 => message + KEPT,
                    lost => format!("{message}; the old configuration stays, except for {lost} of its listeners"),
                });
            }
        }
    }
    for (number, rules) in kept {
        change_rules(rooms, number, rules);
    }
    for (number, socket, rules) in bound {
        rooms.listeners.adopt(&mut rooms.context.logger, number, socket, rules);
    }
    for number in removed {
        stop_listening(rooms, number);
    }
    Ok(())
}

/// Compares the listeners with the configured ones. It matches them by name first, because several listeners with port
/// 0 may differ only in their names.
fn compare(listeners: &Listeners, new: &[config::ListenerConfig]) -> Changes {
    let mut added = new.to_vec();
    let mut removed: Vec<_> = listeners.iter().map(|(number, listener)| (number, &listener.rules)).collect();
    let mut kept = Vec::new();
    for by_name in [true, false] {
        removed.retain(|(number, old)| {
            let same = |new: &config::ListenerConfig| is_same_socket(old, new) && (!by_name || old.name == new.name);
            let found = added.iter().position(same);
            kept.extend(found.map(|index| (*number, added.remove(index))));
            found.is_none()
        });
    }
    Changes { kept, removed: removed.into_iter().map(|(number, _)| number).collect(), added }
}

/// Whether a listener can get other rules without being bound again.
fn is_same_socket(old: &config::ListenerConfig, new: &config::ListenerConfig) -> bool {
    old.address == new.address && old.dual_stack == new.dual_stack
}

/// Whether a listener that is bound to `old` could occupy the address of a new one.
fn may_collide(old: &Address, new: &Address) -> bool {
    match (old, new) {
        (Address::Inet { transport: a, port: p, .. }, Address::Inet { transport: b, port: q, .. }) => a == b && p == q,
        // A path belongs to one file, whatever its transport.
        (Address::Unix { name: a @ UnixName::Path(_), .. }, Address::Unix { name: b, .. }) => a == b,
        (old, new) => old == new,
    }
}

/// Binds a new listener, beside the old ones that are to be removed or, if that is impossible, in their place.
fn bind_among(
    rooms: &mut Rooms,
    rules: &config::ListenerConfig,
    removed: &[ListenerNumber],
    replaced: &mut Replaced,
) -> Result<ListenerSocket, String> {
    match rooms.listeners.bind_socket(rules) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        other => return other.map_err(|error| explain(rules, &error)),
    }
    if let Some(name) = rooms.listeners.holder(|address| may_collide(address, &rules.address)) {
        // A socket of the service manager stays bound when our listener is removed.
        let advice = "choose another address, or restart both with another ListenStream= or ListenDatagram=";
        return Err(format!(
            "cannot listen on {} ({}): the service manager holds the socket \"{name}\" there; {advice}",
            rules.address, rules.name
        ));
    }
    let occupants = rooms.listeners.iter().filter(|(number, listener)| {
        removed.contains(number) && may_collide(listener.socket.address(), &rules.address)
    });
    let occupants: Vec<ListenerNumber> = occupants.map(|(number, _)| number).collect();
    if rules.address.transport() == Transport::Udp {
        // The old ones stay open, because they still have to send, above all their farewells.
        let old: Vec<_> = occupants.iter().filter_map(|number| rooms.listeners.datagram_socket(*number)).collect();
        let bound = DatagramSocket::bind_beside(&rules.address, binding(rules), &old);
        return bound.map(ListenerSocket::Datagrams).map_err(|error| explain(rules, &error));
    }
    for number in occupants {
        free_address(rooms, number, replaced);
    }
    rooms.listeners.bind_socket(rules).map_err(|error| explain(rules, &error))
}

/// Closes an old listener, so that a new one can have its address. Its endpoints stay for now. A datagram socket only
/// releases its path, because farewells must still be sent over it.
fn free_address(rooms: &mut Rooms, number: ListenerNumber, replaced: &mut Replaced) {
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

/// Binds the listeners again that were closed for a reload that has failed. Returns how many could not be bound.
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
        // Endpoints that wait for room in the old socket would get no event: let them try again.
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
    // The engine checks whether native endpoints may send. For text, the rules are looked up with each input.
    for endpoint in endpoints_of(&context.engine, number, Endpoint::is_native) {
        context.engine.set_may_send(endpoint, sends);
    }
}

fn stop_listening(rooms: &mut Rooms, number: ListenerNumber) {
    let now = rooms.context.clock.now();
    let Rooms { context, listeners, streams, datagrams, .. } = rooms;
    // Receive what has arrived while its senders are still registered.
    for _ in 0..LAST_BATCHES {
        if context.engine.intake() != Intake::Open || !datagrams.receive_batch(context, listeners, now, number) {
            break;
        }
    }
    for endpoint in endpoints_of(&context.engine, number, |_| true) {
        context.engine.leave(now, endpoint, Reason::ListenerRemoved);
        streams.discard_inputs(&context.engine, endpoint);
    }
    // Farewells must be sent before a datagram socket is closed.
    rooms.flush(now);
    let engine = &mut rooms.context.engine;
    for endpoint in endpoints_of(engine, number, |endpoint| endpoint.transport.is_datagram()) {
        // Without the socket, nothing can be retransmitted to it.
        engine.connection_lost(now, endpoint, Reason::ListenerRemoved);
    }
    rooms.handle_events(now);
    rooms.listeners.remove(&mut rooms.context, number);
}

/// The endpoints of a listener that satisfy a condition.
fn endpoints_of(engine: &Engine, number: ListenerNumber, condition: impl Fn(&Endpoint) -> bool) -> Vec<EndpointId> {
    let found = engine.endpoints().filter(|(_, endpoint)| endpoint.listener == number && condition(endpoint));
    found.map(|(id, _)| id).collect()
}
