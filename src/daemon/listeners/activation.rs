//! Sockets that the service manager hands over: which listener uses which.
//!
//! The listener with the name of such a socket uses it instead of binding its own, and the socket must be what that
//! bind would have made. So the configuration file decides which clients may connect to what, with and without a
//! service manager. All of these sockets stay open until the daemon ends: a listener that one reload removes and
//! another adds again uses its old socket.

use std::io;

use upcall_engine::ListenerNumber;
use upcall_wire::address::Address;

use super::{ListenerSocket, Listeners, binding};
use crate::config;
use crate::daemon::log::{Logger, warning};
use crate::net::inherited::Inherited;

/// The reasons why sockets that were handed over do not match the listeners, one for each such socket.
fn mismatches(inherited: &[Inherited], listeners: &[config::ListenerConfig]) -> Vec<String> {
    let reason = |(index, socket): (usize, &Inherited)| {
        let name = socket.name();
        let wrong = if inherited[..index].iter().any(|other| other.name() == name) {
            "another one has the same name, and a listener has one socket".to_owned()
        } else if let Some(rules) = listeners.iter().find(|rules| rules.name == name) {
            socket.check(&rules.address, binding(rules)).err()?
        } else {
            let names: Vec<String> = listeners.iter().map(|rules| format!("\"{}\"", rules.name)).collect();
            format!("no listener has this name; there are {} (FileDescriptorName= names one)", names.join(", "))
        };
        Some(format!("socket \"{}\", {}, was handed over: {wrong}", name.escape_debug(), socket.address()))
    };
    inherited.iter().enumerate().filter_map(reason).collect()
}

impl Listeners {
    /// The reasons why sockets that were handed over do not match these listeners.
    pub(in crate::daemon) fn mismatches(&self, listeners: &[config::ListenerConfig]) -> Vec<String> {
        mismatches(&self.inherited, listeners)
    }

    /// The socket that was handed over for this listener, unless there is none or a listener uses it already.
    pub(super) fn inherit(&self, rules: &config::ListenerConfig) -> Option<io::Result<ListenerSocket>> {
        let is_used =
            |socket: &Inherited| self.active.values().any(|listener| listener.socket.address() == socket.address());
        let fits =
            |socket: &&Inherited| socket.name() == rules.name && socket.check(&rules.address, binding(rules)).is_ok();
        let socket = self.inherited.iter().find(|socket| fits(socket) && !is_used(socket))?;
        Some(ListenerSocket::inherit(socket, binding(rules)))
    }

    /// Whether the socket of a listener was handed over, so that the service manager holds it too.
    pub(in crate::daemon) fn is_inherited(&self, number: ListenerNumber) -> bool {
        let address = self.get(number).map(|listener| listener.socket.address());
        address.is_some_and(|address| self.holder(|inherited| inherited == address).is_some())
    }

    /// The name of the first handed-over socket whose address satisfies a condition.
    pub(in crate::daemon) fn holder(&self, condition: impl Fn(&Address) -> bool) -> Option<&str> {
        self.inherited.iter().find(|socket| condition(socket.address())).map(Inherited::name)
    }

    /// Warns about sockets with queued datagrams that carry no credentials of their senders.
    pub(in crate::daemon) fn warn_of_credentials(&self, logger: &mut Logger) {
        for socket in self.inherited.iter().filter(|socket| socket.lacked_credentials()) {
            let name = socket.name();
            warning!(
                logger, listener = name;
                "datagrams that were queued in socket \"{name}\" carry no credentials of their senders; \
                 write PassCredentials=yes in its unit"
            );
        }
    }

    /// Warns about mismatches that this daemon tolerates, but at which the next start will fail.
    pub(in crate::daemon) fn warn_of_mismatches(&self, logger: &mut Logger, listeners: &[config::ListenerConfig]) {
        for reason in self.mismatches(listeners) {
            warning!(
                logger,
                "the next start will fail: {reason}; the service manager still holds the socket: change its unit too"
            );
        }
    }
}
