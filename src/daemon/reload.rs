//! The configuration is read again: listeners come and go, everything else changes in place, and a wrong file, or a
//! listener that cannot be bound, changes nothing at all.

use std::io;

use super::listening::Socket;
use super::log::{error, info, warning};
use super::server::{Server, binding, logs_inputs, settings};
use crate::address::Address;
use crate::config::{self, Config};
use crate::engine::ListenerNumber;
use crate::wire::reason::Reason;

/// Binds a listener; the error says where, why, and what to do.
pub(super) fn bind(rules: &config::Listener) -> Result<Socket, String> {
    bind_socket(rules).map_err(|error| explain(rules, &error))
}

fn bind_socket(rules: &config::Listener) -> io::Result<Socket> {
    Socket::bind(&rules.address, binding(rules))
}

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

/// Whether two listeners could be in each other's way.
fn may_collide(old: &config::Listener, new: &config::Listener) -> bool {
    match (&old.address, &new.address) {
        (Address::Inet { transport: a, port: p, .. }, Address::Inet { transport: b, port: q, .. }) => a == b && p == q,
        (old, new) => old == new,
    }
}

impl Server {
    /// SIGHUP.
    pub(super) fn reload(&mut self) {
        if self.drain.is_some() {
            return;
        }
        let (source, config) = self.origin.load();
        let config = match config {
            Ok(config) => config,
            Err(mistakes) => {
                for mistake in mistakes.list() {
                    error!(self.log, "{mistake}");
                }
                return error!(self.log, "reload refused: {source} is wrong; the old configuration stays");
            }
        };
        match self.change_listeners(&config) {
            Ok(()) => self.change_settings(config),
            Err(message) => return error!(self.log, "reload refused: {message}; the old configuration stays"),
        }
        info!(self.log, "reloaded: configuration: {source}");
    }

    /// Binds what is new before anything that is old goes. What cannot be bound beside an old listener that goes is bound
    /// in its place.
    fn change_listeners(&mut self, config: &Config) -> Result<(), String> {
        let kept = |old: &config::Listener| config.listeners.iter().find(|new| same_socket(old, new)).cloned();
        let mut going: Vec<ListenerNumber> = Vec::new();
        let mut staying: Vec<(ListenerNumber, config::Listener)> = Vec::new();
        for (number, active) in &self.listeners {
            match kept(&active.rules) {
                Some(rules) => staying.push((*number, rules)),
                None => going.push(*number),
            }
        }
        let is_new = |new: &&config::Listener| !self.listeners.values().any(|active| same_socket(&active.rules, new));
        let coming: Vec<config::Listener> = config.listeners.iter().filter(is_new).cloned().collect();

        let mut bound = Vec::new();
        let mut replaced = Vec::new();
        for rules in coming {
            let socket = match bind_socket(&rules) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    self.make_way(&rules, &going, &mut replaced);
                    bind(&rules)
                }
                other => other.map_err(|error| explain(&rules, &error)),
            };
            match socket {
                Ok(socket) => bound.push((socket, rules)),
                Err(message) => {
                    drop(bound);
                    self.restore(replaced);
                    return Err(message);
                }
            }
        }
        for (number, rules) in staying {
            self.change_rules(number, rules);
        }
        for (socket, rules) in bound {
            self.listen(socket, rules)?;
        }
        for number in going {
            self.stop_listening(number);
        }
        Ok(())
    }

    /// Closes the old listeners that may be in the way of a new one; their endpoints stay for now.
    fn make_way(
        &mut self,
        new: &config::Listener,
        going: &[ListenerNumber],
        replaced: &mut Vec<(ListenerNumber, config::Listener)>,
    ) {
        let now = self.clock.now();
        for number in going {
            if self.listeners.get(number).is_some_and(|active| may_collide(&active.rules, new)) {
                self.accept_from(now, *number);
                self.receive_batch(now, *number);
                if let Some(active) = self.listeners.remove(number) {
                    info!(self.log, "no longer listening on {} ({})", active.socket.address(), active.rules.name);
                    replaced.push((*number, active.rules));
                }
            }
        }
    }

    /// Binds again what was closed for nothing.
    fn restore(&mut self, replaced: Vec<(ListenerNumber, config::Listener)>) {
        for (number, rules) in replaced {
            let restored = bind(&rules).and_then(|socket| self.listen_as(number, socket, rules));
            if let Err(message) = restored {
                error!(self.log, "{message}: this listener is lost until the next reload");
            }
        }
    }

    fn change_rules(&mut self, number: ListenerNumber, rules: config::Listener) {
        let Some(active) = self.listeners.get_mut(&number) else { return };
        if binding(&active.rules) != binding(&rules)
            && let Err(error) = active.socket.set_access(binding(&rules))
        {
            warning!(self.log, "cannot change mode or group of {}: {error}", rules.address);
        }
        active.rules = rules;
    }

    fn stop_listening(&mut self, number: ListenerNumber) {
        let now = self.clock.now();
        let endpoints = self.engine.endpoints().filter(|(_, endpoint)| endpoint.listener == number);
        for endpoint in endpoints.map(|(id, _)| id).collect::<Vec<_>>() {
            self.engine.leave(now, endpoint, Reason::ListenerRemoved);
            self.discard_inputs(endpoint);
        }
        // Over a socket for datagrams, the farewells have to go before it does.
        self.flush(now);
        if let Some(active) = self.listeners.remove(&number) {
            info!(self.log, "no longer listening on {} ({})", active.socket.address(), active.rules.name);
        }
        let left = self.engine.endpoints().filter(|(_, endpoint)| endpoint.listener == number && endpoint.transport.is_datagram());
        for endpoint in left.map(|(id, _)| id).collect::<Vec<_>>() {
            self.engine.lost(now, endpoint, Reason::ListenerRemoved);
        }
    }

    fn change_settings(&mut self, mut config: Config) {
        if config.log.size != self.config.log.size {
            let size = self.config.log.size;
            warning!(self.log, "log.size needs a restart; it stays at {size} bytes");
            config.log.size = size;
            if config.slow_consumer.max_behind > size / 2 {
                let max_behind = self.config.slow_consumer.max_behind;
                warning!(
                    self.log,
                    "slow_consumer.max_behind does not fit into that log; it stays at {max_behind} bytes"
                );
                config.slow_consumer.max_behind = max_behind;
            }
        }
        self.engine.reconfigure(settings(&config));
        self.inbox = Some(super::datagrams::inbox(config.upcall.max_message, config.slow_consumer.max_behind));
        self.log_inputs = logs_inputs(&config);
        self.log.set_level(config.daemon.log_level);
        self.config = config;
    }
}
