//! Listeners: their sockets, their rules, and which of them may have connections to accept or datagrams to receive.
//!
//! Knows neither connections nor datagram peers.
//!
//! The struct is defined here; the other files add methods to it, one part of its work each, and call each other's. These
//! are the only arrows inside this folder that point back up.

mod activation;
mod admission;
mod bind;
mod blocked;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::config;
use crate::net::binding::Binding;
use crate::net::datagram::{DatagramSocket, FlowControl};
use crate::net::inherited::Inherited;
use crate::net::listener::StreamListener;
use upcall_engine::{EndpointId, ListenerNumber};
use upcall_wire::address::Address;

pub(in crate::daemon) use admission::{admits, authenticate, terms};
pub(in crate::daemon) use bind::{binding, explain, log_closed, watch};

/// The socket of a listener.
#[derive(Debug)]
pub(in crate::daemon) enum ListenerSocket {
    /// Clients connect to it.
    Streams(StreamListener),
    /// Clients send datagrams to it.
    Datagrams(DatagramSocket),
}

impl ListenerSocket {
    pub(in crate::daemon) fn bind(address: &Address, binding: Binding) -> io::Result<ListenerSocket> {
        if address.transport().is_datagram() {
            DatagramSocket::bind(address, binding).map(ListenerSocket::Datagrams)
        } else {
            StreamListener::bind(address, binding).map(ListenerSocket::Streams)
        }
    }

    /// Uses a socket that was handed over.
    pub(super) fn inherit(inherited: &Inherited, binding: Binding) -> io::Result<ListenerSocket> {
        if inherited.address().transport().is_datagram() {
            DatagramSocket::inherit(inherited, binding).map(ListenerSocket::Datagrams)
        } else {
            StreamListener::inherit(inherited).map(ListenerSocket::Streams)
        }
    }

    pub(in crate::daemon) fn address(&self) -> &Address {
        match self {
            ListenerSocket::Streams(socket) => socket.address(),
            ListenerSocket::Datagrams(socket) => socket.address(),
        }
    }

    /// Changes mode and group of a socket file.
    pub(in crate::daemon) fn set_access(&self, binding: Binding) -> io::Result<()> {
        match self {
            ListenerSocket::Streams(socket) => socket.set_access(binding),
            ListenerSocket::Datagrams(socket) => socket.set_access(binding),
        }
    }

    pub(in crate::daemon) fn is_stream(&self) -> bool {
        matches!(self, ListenerSocket::Streams(_))
    }
}

impl AsFd for ListenerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            ListenerSocket::Streams(socket) => socket.as_fd(),
            ListenerSocket::Datagrams(socket) => socket.as_fd(),
        }
    }
}

/// A configured listener that is listening.
#[derive(Debug)]
pub(in crate::daemon) struct ActiveListener {
    pub(in crate::daemon) socket: ListenerSocket,
    pub(in crate::daemon) rules: config::ListenerConfig,
    /// There may be a connection to accept, or a datagram to receive.
    pub(in crate::daemon) pending: bool,
    /// Datagram endpoints that wait until its socket has room.
    pub(in crate::daemon) blocked: Vec<EndpointId>,
    /// Used only for a Unix datagram socket.
    pub(in crate::daemon) flow: FlowControl,
}

impl ActiveListener {
    fn new(socket: ListenerSocket, rules: config::ListenerConfig) -> ActiveListener {
        ActiveListener { socket, rules, pending: true, blocked: Vec::new(), flow: FlowControl::default() }
    }
}

/// All listeners, and the sockets that the service manager handed over.
#[derive(Debug)]
pub(in crate::daemon) struct Listeners {
    active: BTreeMap<ListenerNumber, ActiveListener>,
    /// The names of removed listeners that still have endpoints, for the lines about the end of those.
    removed: BTreeMap<ListenerNumber, String>,
    /// The last number that was given to a listener. No other listener ever gets the same number.
    last_number: ListenerNumber,
    /// Every socket that was handed over, whether a listener uses it or not.
    inherited: Vec<Inherited>,
}

impl Listeners {
    pub(in crate::daemon) fn new(inherited: Vec<Inherited>) -> Listeners {
        Listeners { active: BTreeMap::new(), removed: BTreeMap::new(), last_number: 0, inherited }
    }

    pub(in crate::daemon) fn get(&self, number: ListenerNumber) -> Option<&ActiveListener> {
        self.active.get(&number)
    }

    pub(in crate::daemon) fn get_mut(&mut self, number: ListenerNumber) -> Option<&mut ActiveListener> {
        self.active.get_mut(&number)
    }

    pub(in crate::daemon) fn iter(&self) -> impl Iterator<Item = (ListenerNumber, &ActiveListener)> {
        self.active.iter().map(|(number, listener)| (*number, listener))
    }

    /// The first listener of this kind, by number from `from` on, that may have something pending.
    pub(in crate::daemon) fn next_pending(&self, from: ListenerNumber, is_stream: bool) -> Option<ListenerNumber> {
        let is_pending = |listener: &ActiveListener| listener.pending && listener.socket.is_stream() == is_stream;
        self.active.range(from..).find(|(_, listener)| is_pending(listener)).map(|(number, _)| *number)
    }

    /// The name of a listener, for log lines.
    pub(in crate::daemon) fn name_of(&self, number: ListenerNumber) -> &str {
        let name = self.get(number).map(|listener| &listener.rules.name).or_else(|| self.removed.get(&number));
        name.map_or("?", String::as_str)
    }

    /// The socket of a listener for datagrams.
    pub(in crate::daemon) fn datagram_socket(&self, number: ListenerNumber) -> Option<&DatagramSocket> {
        match &self.get(number)?.socket {
            ListenerSocket::Datagrams(socket) => Some(socket),
            ListenerSocket::Streams(_) => None,
        }
    }

    /// Records that there may be something to accept or to receive.
    pub(in crate::daemon) fn mark_pending(&mut self, number: ListenerNumber) {
        if let Some(listener) = self.get_mut(number) {
            listener.pending = true;
        }
    }
}
