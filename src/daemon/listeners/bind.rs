//! Starts and stops listening.

use std::io;

use upcall_engine::ListenerNumber;
use upcall_wire::address::{Address, Host};

use super::{ActiveListener, ListenerSocket, Listeners};
use crate::config;
use crate::daemon::context::Context;
use crate::daemon::log::{Logger, info, warning};
use crate::daemon::tokens::EventToken;
use crate::net::binding::Binding;
use crate::net::poller::{Interest, Poller};

pub(in crate::daemon) fn binding(rules: &config::ListenerConfig) -> Binding {
    Binding { dual_stack: rules.dual_stack, mode: rules.mode, group: rules.group }
}

/// The message for a listener that cannot be bound: the reason, and a remedy.
pub(in crate::daemon) fn explain(rules: &config::ListenerConfig, error: &io::Error) -> String {
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

impl Listeners {
    /// A number that no listener has or had.
    pub(in crate::daemon) fn new_number(&mut self) -> ListenerNumber {
        self.last_number += 1;
        self.last_number
    }

    /// Binds a listener, or uses the socket that was handed over for it.
    pub(in crate::daemon) fn bind_socket(&self, rules: &config::ListenerConfig) -> io::Result<ListenerSocket> {
        self.inherit(rules).unwrap_or_else(|| ListenerSocket::bind(&rules.address, binding(rules)))
    }

    /// Like [`bind_socket`](Listeners::bind_socket), but also watches the socket. The error names the address, the
    /// reason and a remedy. The caller must [adopt](Listeners::adopt) or close the socket in the same turn.
    pub(in crate::daemon) fn open(
        &self,
        poller: &Poller,
        number: ListenerNumber,
        rules: &config::ListenerConfig,
    ) -> Result<ListenerSocket, String> {
        let socket = self.bind_socket(rules).map_err(|error| explain(rules, &error))?;
        watch(poller, number, &socket)?;
        Ok(socket)
    }

    /// Adds a listener whose socket is already watched under this number.
    pub(in crate::daemon) fn adopt(
        &mut self,
        logger: &mut Logger,
        number: ListenerNumber,
        socket: ListenerSocket,
        rules: config::ListenerConfig,
    ) {
        let families = match socket.address() {
            Address::Inet { host: Host::Ip(ip), .. } if ip.is_ipv6() && ip.is_unspecified() => {
                if rules.dual_stack {
                    ", IPv6 and IPv4"
                } else {
                    ", IPv6 only"
                }
            }
            _ => "",
        };
        let handed_over = match self.holder(|address| address == socket.address()) {
            Some(_) => ", handed over",
            None => "",
        };
        info!(
            logger, listener = rules.name, address = socket.address();
            "listening on {} ({}{families}{handed_over})", socket.address(), rules.name
        );
        self.active.insert(number, ActiveListener::new(socket, rules));
    }

    /// Removes a listener and returns it, with its socket still open and watched.
    pub(in crate::daemon) fn take(&mut self, number: ListenerNumber) -> Option<ActiveListener> {
        self.active.remove(&number)
    }

    /// Undoes [`Listeners::take`].
    pub(in crate::daemon) fn put_back(&mut self, number: ListenerNumber, listener: ActiveListener) {
        self.active.insert(number, listener);
    }

    /// Closes a listener. Its socket is removed from the poller explicitly, because closing does not do that for a
    /// socket that was handed over: other descriptors keep it open.
    pub(in crate::daemon) fn remove(&mut self, context: &mut Context, number: ListenerNumber) {
        let Some(ActiveListener { socket, rules, .. }) = self.take(number) else { return };
        if let Err(error) = context.poller.remove(&socket) {
            warning!(context.logger, listener = rules.name; "cannot stop watching {}: {error}", socket.address());
        }
        if context.drain.is_none() {
            log_closed(&mut context.logger, &socket, &rules);
        }
        self.removed.insert(number, rules.name);
        let engine = &context.engine;
        self.removed.retain(|number, _| engine.endpoints().any(|(_, endpoint)| endpoint.listener == *number));
    }
}

/// Watches the socket of a listener.
pub(in crate::daemon) fn watch(poller: &Poller, number: ListenerNumber, socket: &ListenerSocket) -> Result<(), String> {
    let added = poller.add(socket, EventToken::Listener(number).encode(), Interest::Read);
    added.map_err(|error| format!("cannot watch {}: {error}", socket.address()))
}

pub(in crate::daemon) fn log_closed(logger: &mut Logger, socket: &ListenerSocket, rules: &config::ListenerConfig) {
    info!(logger, listener = rules.name; "no longer listening on {} ({})", socket.address(), rules.name);
}
