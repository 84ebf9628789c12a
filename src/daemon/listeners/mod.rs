//! Listeners of either kind, as far as they are alike.

pub(in crate::daemon) mod activation;
pub(in crate::daemon) mod admission;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::config;
use crate::net::datagram::{DatagramSocket, FlowControl};
use crate::net::inherited::Inherited;
use crate::net::listener::{Binding, Listener};
use upcall_engine::EndpointId;
use upcall_wire::address::Address;

/// A socket that clients come to.
#[derive(Debug)]
pub(in crate::daemon) enum Socket {
    /// They connect.
    Streams(Listener),
    /// They send datagrams.
    Datagrams(DatagramSocket),
}

impl Socket {
    pub(in crate::daemon) fn bind(address: &Address, binding: Binding) -> io::Result<Socket> {
        if address.transport().is_datagram() {
            DatagramSocket::bind(address, binding).map(Socket::Datagrams)
        } else {
            Listener::bind(address, binding).map(Socket::Streams)
        }
    }

    /// Uses one that was handed over.
    pub(in crate::daemon) fn inherit(inherited: &Inherited, binding: Binding) -> io::Result<Socket> {
        if inherited.address().transport().is_datagram() {
            DatagramSocket::inherit(inherited, binding).map(Socket::Datagrams)
        } else {
            Listener::inherit(inherited).map(Socket::Streams)
        }
    }

    pub(in crate::daemon) fn address(&self) -> &Address {
        match self {
            Socket::Streams(socket) => socket.address(),
            Socket::Datagrams(socket) => socket.address(),
        }
    }

    pub(in crate::daemon) fn set_access(&self, binding: Binding) -> io::Result<()> {
        match self {
            Socket::Streams(socket) => socket.set_access(binding),
            Socket::Datagrams(socket) => socket.set_access(binding),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Streams(socket) => socket.as_fd(),
            Socket::Datagrams(socket) => socket.as_fd(),
        }
    }
}

/// A configured listener that is listening.
#[derive(Debug)]
pub(in crate::daemon) struct Active {
    pub(in crate::daemon) socket: Socket,
    pub(in crate::daemon) rules: config::Listener,
    /// Somebody may be waiting to be accepted, or a datagram to be read.
    pub(in crate::daemon) waiting: bool,
    /// Datagram endpoints that its socket had no room for.
    pub(in crate::daemon) blocked: Vec<EndpointId>,
    /// Of a Unix datagram socket.
    pub(in crate::daemon) flow: FlowControl,
}

impl Active {
    pub(in crate::daemon) fn new(socket: Socket, rules: config::Listener) -> Active {
        Active { socket, rules, waiting: true, blocked: Vec::new(), flow: FlowControl::default() }
    }
}
