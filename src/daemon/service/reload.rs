//! The configuration is read again: listeners come and go, everything else changes in place, and a wrong file, or a
//! listener that cannot be bound, changes nothing at all.

use std::io;

use super::files;
use crate::config::{self, Config};
use crate::daemon::listeners::{Active, Socket};
use crate::daemon::log::{error, info, warning};
use crate::daemon::server::{Server, binding, logs_inputs, settings};
use crate::net::datagram::DatagramSocket;
use upcall_engine::{Intake, ListenerNumber};
use upcall_wire::address::{Address, Transport, UnixName};
use upcall_wire::reason::Reason;

/// What is said where nothing has changed.
const KEPT: &str = "; the old configuration stays";

/// Batches of datagrams that a listener still takes when it goes: somebody may be sending without end.
const LAST_BATCHES: usize = 64;

fn explain(rules: &config::Listener, error: &io::Error) -> String {
    let advice = match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::AddrInUse, Some(_)) => "; another program listens there: stop it, or choose another address",
        (io::ErrorKind::PermissionDenied, _) if rules.address.transport().is_inet() => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE: choose another port, or give it to the service"
        }
        (io::ErrorKind::AddrNotAvailable, _) => "; no interface of this machine has that address",
        _ => "",
    };
    format!("cannot listen on {} ({}): {error}{advice}", rules.address, rules.name)
}

/// Whether a listener that stands can go on under these rules without being bound again.
fn same_socket(old: &config::Listener, new: &config::Listener) -> bool {
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

impl Server {
    /// SIGHUP.
    pub(in crate::daemon) fn reload(&mut self) {
        if self.drain.is_some() {
            return;
        }
        self.notifier.reloading(self.clock.now().time);
        let refused = self.try_reload().is_none();
        self.notifier.reloaded(self.clock.now().time, refused);
    }

    /// None, and said why, if nothing has changed.
    fn try_reload(&mut self) -> Option<()> {
        let (source, config) = self.origin.load();
        let config = match config {
            Ok(config) => config,
            Err(mistakes) => {
                for mistake in mistakes.list() {
                    error!(self.log, "{mistake}");
                }
                error!(self.log, "reload refused: {source} cannot be used{KEPT}");
                return None;
            }
        };
        let fitting = self.fit_to_log(config).map_err(|message| message + KEPT);
        match fitting.and_then(|config| self.change_listeners(&config).map(|()| config)) {
            Ok(config) => self.change_settings(config),
            Err(message) => {
                error!(self.log, "reload refused: {message}");
                return None;
            }
        }
        self.warn_of_misfits();
        info!(self.log, "reloaded: configuration: {source}");
        Some(())
    }

    /// Binds a listener, or takes the socket that was handed over for it; the error says where, why, and what to do.
    pub(in crate::daemon) fn bind(&self, rules: &config::Listener) -> Result<Socket, String> {
        self.bind_socket(rules).map_err(|error| explain(rules, &error))
    }

    fn bind_socket(&self, rules: &config::Listener) -> io::Result<Socket> {
        self.inherit(rules).unwrap_or_else(|| Socket::bind(&rules.address, binding(rules)))
    }

    /// Binds what is new before anything that is old goes. What cannot be bound beside an old listener that goes is bound
    /// in its place. Nothing can fail any more once the first of the old has changed.
    fn change_listeners(&mut self, config: &Config) -> Result<(), String> {
        let (staying, going, coming) = self.compare(&config.listeners);
        let mut bound = Vec::new();
        let mut replaced = Vec::new();
        for rules in coming {
            let number = self.new_number();
            let socket = self.bind_among(&rules, &going, &mut replaced);
            match socket.and_then(|socket| self.watch(number, &socket).map(|()| socket)) {
                Ok(socket) => bound.push((number, socket, rules)),
                Err(message) => {
                    drop(bound);
                    return Err(match self.restore(replaced) {
                        0 => message + KEPT,
                        lost => format!("{message}; the old configuration stays, but for {lost} of its listeners"),
                    });
                }
            }
        }
        for (number, rules) in staying {
            self.change_rules(number, rules);
        }
        for (number, socket, rules) in bound {
            self.adopt(number, socket, rules);
        }
        for number in going {
            self.stop_listening(number);
        }
        Ok(())
    }

    /// Binds a new listener, beside the old ones that go or, where that cannot be, in their place.
    fn bind_among(
        &mut self,
        rules: &config::Listener,
        going: &[ListenerNumber],
        replaced: &mut Vec<(ListenerNumber, config::Listener)>,
    ) -> Result<Socket, String> {
        match self.bind_socket(rules) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            other => return other.map_err(|error| explain(rules, &error)),
        }
        if let Some(name) = self.holder(|address| may_collide(address, &rules.address)) {
            // What we do not bind does not go with us.
            let advice = "choose another address, or restart both with another ListenStream= or ListenDatagram=";
            return Err(format!(
                "cannot listen on {} ({}): the service manager holds the socket \"{name}\" there; {advice}",
                rules.address, rules.name
            ));
        }
        let in_the_way: Vec<ListenerNumber> = self
            .listeners
            .iter()
            .filter(|(number, active)| going.contains(number) && may_collide(active.socket.address(), &rules.address))
            .map(|(number, _)| *number)
            .collect();
        if rules.address.transport() == Transport::Udp {
            // What the old ones still have to send, farewells above all, goes by their own sockets.
            let old = in_the_way.iter().filter_map(|number| match &self.listeners.get(number)?.socket {
                Socket::Datagrams(socket) => Some(socket),
                Socket::Streams(_) => None,
            });
            let bound = DatagramSocket::bind_beside(&rules.address, binding(rules), &old.collect::<Vec<_>>());
            return bound.map(Socket::Datagrams).map_err(|error| explain(rules, &error));
        }
        for number in in_the_way {
            self.make_way(number, replaced);
        }
        self.bind(rules)
    }

    /// Which listeners stay, and under which rules; which go; and which come. By name first: several may be configured
    /// with port 0, and are alike but for their names.
    #[allow(clippy::type_complexity)] // three lists, taken apart at once
    fn compare(
        &self,
        new: &[config::Listener],
    ) -> (Vec<(ListenerNumber, config::Listener)>, Vec<ListenerNumber>, Vec<config::Listener>) {
        let mut coming = new.to_vec();
        let mut going: Vec<ListenerNumber> = self.listeners.keys().copied().collect();
        let mut staying = Vec::new();
        for by_name in [true, false] {
            going.retain(|number| {
                let old = &self.listeners[number].rules;
                let same = |new: &config::Listener| same_socket(old, new) && (!by_name || old.name == new.name);
                let found = coming.iter().position(same);
                staying.extend(found.map(|index| (*number, coming.remove(index))));
                found.is_none()
            });
        }
        (staying, going, coming)
    }

    /// Closes an old listener that may be in the way of a new one; its endpoints stay for now. A socket for datagrams only
    /// gives back its path: the farewells are still to be sent over it.
    fn make_way(&mut self, number: ListenerNumber, replaced: &mut Vec<(ListenerNumber, config::Listener)>) {
        self.accept_all(self.clock.now(), number);
        let Some(mut active) = self.listeners.remove(&number) else { return };
        let Active { socket, rules, .. } = &mut active;
        replaced.push((number, rules.clone()));
        match socket {
            Socket::Streams(_) => {
                info!(self.log, listener = rules.name; "no longer listening on {} ({})", socket.address(), rules.name)
            }
            Socket::Datagrams(datagrams) => {
                datagrams.give_back_path();
                self.listeners.insert(number, active);
            }
        }
    }

    /// Binds again what was closed for nothing; returns how many could not be.
    fn restore(&mut self, replaced: Vec<(ListenerNumber, config::Listener)>) -> usize {
        let mut lost = 0;
        for (number, rules) in replaced {
            self.listeners.remove(&number);
            let restored = self.bind(&rules).and_then(|socket| self.watch(number, &socket).map(|()| socket));
            match restored {
                Ok(socket) => self.adopt(number, socket, rules),
                Err(message) => {
                    lost += 1;
                    error!(self.log, "{message}: this listener is lost until the next reload");
                }
            }
            // Whoever the old socket had no room for will not hear of it.
            let here = self.engine.endpoints().filter(|(_, e)| e.listener == number && e.transport.is_datagram());
            for endpoint in here.map(|(id, _)| id).collect::<Vec<_>>() {
                self.engine.writable(endpoint);
            }
        }
        lost
    }

    fn change_rules(&mut self, number: ListenerNumber, rules: config::Listener) {
        let is_inherited = self.is_inherited(number);
        let Some(active) = self.listeners.get_mut(&number) else { return };
        let changes = binding(&active.rules) != binding(&rules);
        if changes && is_inherited {
            warning!(self.log, listener = rules.name; "mode and group of {} are the service manager's", rules.address);
        } else if changes && let Err(error) = active.socket.set_access(binding(&rules)) {
            warning!(self.log, listener = rules.name; "cannot change mode or group of {}: {error}", rules.address);
        }
        let sends = rules.role != config::Role::Output;
        active.rules = rules;
        // Text is looked at as it comes.
        let here = self.engine.endpoints().filter(|(_, endpoint)| endpoint.listener == number && endpoint.is_native());
        for endpoint in here.map(|(id, _)| id).collect::<Vec<_>>() {
            self.engine.set_may_send(endpoint, sends);
        }
    }

    fn stop_listening(&mut self, number: ListenerNumber) {
        let now = self.clock.now();
        // What has come before now is said by somebody who is registered.
        for _ in 0..LAST_BATCHES {
            if self.engine.intake() != Intake::Open || !self.receive_batch(now, number) {
                break;
            }
        }
        let endpoints = self.engine.endpoints().filter(|(_, endpoint)| endpoint.listener == number);
        for endpoint in endpoints.map(|(id, _)| id).collect::<Vec<_>>() {
            self.engine.leave(now, endpoint, Reason::ListenerRemoved);
            self.discard_inputs(endpoint);
        }
        // Over a socket for datagrams, the farewells have to go before it does.
        self.flush(now);
        let left = self
            .engine
            .endpoints()
            .filter(|(_, endpoint)| endpoint.listener == number && endpoint.transport.is_datagram());
        for endpoint in left.map(|(id, _)| id).collect::<Vec<_>>() {
            // What it has not acknowledged it can be sent no more.
            self.engine.connection_lost(now, endpoint, Reason::ListenerRemoved);
        }
        self.see_off(now);
        self.remove_listener(number);
    }

    /// Closes a listener. One whose socket was handed over stays open elsewhere, and would be watched for ever.
    pub(in crate::daemon) fn remove_listener(&mut self, number: ListenerNumber) {
        let Some(Active { socket, rules, .. }) = self.listeners.remove(&number) else { return };
        if let Err(error) = self.poller.remove(&socket) {
            warning!(self.log, listener = rules.name; "cannot end watching {}: {error}", socket.address());
        }
        if self.drain.is_none() {
            info!(self.log, listener = rules.name; "no longer listening on {} ({})", socket.address(), rules.name);
        }
    }

    /// The log keeps its size until a restart. Whatever else is configured has to fit into it.
    fn fit_to_log(&mut self, mut config: Config) -> Result<Config, String> {
        let size = self.config.log.size;
        if config.log.size == size {
            return Ok(config);
        }
        config.log.size = size;
        let size = config::print_size(size);
        warning!(self.log, "log.size needs a restart; it stays at {size}");
        match config::parse("as it would be", &config.to_toml()) {
            Ok(config) => Ok(config),
            Err(mistakes) => {
                let reasons: Vec<&str> = mistakes.list().iter().map(|mistake| mistake.reason.as_str()).collect();
                Err(format!("with a log of {size}, {}", reasons.join("; ")))
            }
        }
    }

    fn change_settings(&mut self, config: Config) {
        self.engine.reconfigure(self.clock.now(), settings(&config));
        self.inbox = Some(crate::daemon::datagrams::inbox(&config));
        self.log_inputs = logs_inputs(&config);
        self.log.reconfigure(&config.daemon);
        if config.registry.max_endpoints != self.config.registry.max_endpoints {
            files::warn_of_limit(&mut self.log, &config);
        }
        self.config = config;
    }
}
