//! Sockets that the service manager hands over: which listener gets which, and what becomes of them when it goes.
//!
//! A socket stands in for the bind of the listener of its name, and has to be what that would have bound: so the file says
//! who may connect to what, with and without a service manager. All of them stay open until the daemon ends: a listener that
//! a reload removes and another one adds again finds its own.

use std::io;

use crate::config;
use crate::daemon::listeners::Socket;
use crate::daemon::log::warning;
use crate::daemon::server::{Server, binding};
use crate::net::inherited::Inherited;
use upcall_engine::ListenerNumber;
use upcall_wire::address::Address;

/// Why the sockets that were handed over and the listeners do not belong together, a reason each.
pub(in crate::daemon) fn misfits(inherited: &[Inherited], listeners: &[config::Listener]) -> Vec<String> {
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

impl Server {
    /// The socket that was handed over for this listener, if there is one that nobody uses.
    pub(in crate::daemon) fn inherit(&self, rules: &config::Listener) -> Option<io::Result<Socket>> {
        let is_used =
            |socket: &Inherited| self.listeners.values().any(|active| active.socket.address() == socket.address());
        let fits =
            |socket: &&Inherited| socket.name() == rules.name && socket.check(&rules.address, binding(rules)).is_ok();
        let socket = self.inherited.iter().find(|socket| fits(socket) && !is_used(socket))?;
        Some(Socket::inherit(socket, binding(rules)))
    }

    /// Whether the socket of a listener was handed over: the service manager has it, too.
    pub(in crate::daemon) fn is_inherited(&self, number: ListenerNumber) -> bool {
        let address = self.listeners.get(&number).map(|active| active.socket.address());
        address.is_some_and(|address| self.holder(|inherited| inherited == address).is_some())
    }

    /// The name of the first socket that was handed over and whose address is such.
    pub(in crate::daemon) fn holder(&self, is_such: impl Fn(&Address) -> bool) -> Option<&str> {
        self.inherited.iter().find(|socket| is_such(socket.address())).map(Inherited::name)
    }

    /// Says which datagrams are from nobody.
    pub(in crate::daemon) fn warn_of_credentials(&mut self) {
        for socket in self.inherited.iter().filter(|socket| socket.lacked_credentials()) {
            let name = socket.name();
            warning!(
                self.log, listener = name;
                "who has sent to socket \"{name}\" before now is not known; write PassCredentials=yes in its unit"
            );
        }
    }

    /// Says what the next start will refuse though this one goes on.
    pub(in crate::daemon) fn warn_of_misfits(&mut self) {
        for reason in misfits(&self.inherited, &self.config.listeners) {
            warning!(
                self.log,
                "the next start will fail: {reason}; the service manager still holds it: change its unit, too"
            );
        }
    }
}
