//! Listeners of either kind, as far as they are alike.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::config;
use crate::net::binding::Binding;
use crate::net::datagram::{DatagramSocket, FlowControl};
use crate::net::inherited::Inherited;
use crate::net::listener::StreamListener;
use upcall_engine::EndpointId;
use upcall_wire::address::Address;

/// A socket that clients come to.
#[derive(Debug)]
pub(super) enum Socket {
    /// They connect.
    Streams(StreamListener),
    /// They send datagrams.
    Datagrams(DatagramSocket),
}

impl Socket {
    pub(super) fn bind(address: &Address, binding: Binding) -> io::Result<Socket> {
        if address.transport().is_datagram() {
            DatagramSocket::bind(address, binding).map(Socket::Datagrams)
        } else {
            StreamListener::bind(address, binding).map(Socket::Streams)
        }
    }

    /// Uses one that was handed over.
    pub(super) fn inherit(inherited: &Inherited, binding: Binding) -> io::Result<Socket> {
        if inherited.address().transport().is_datagram() {
            DatagramSocket::inherit(inherited, binding).map(Socket::Datagrams)
        } else {
            StreamListener::inherit(inherited).map(Socket::Streams)
        }
    }

    pub(super) fn address(&self) -> &Address {
        match self {
            Socket::Streams(socket) => socket.address(),
            Socket::Datagrams(socket) => socket.address(),
        }
    }

    pub(super) fn set_access(&self, binding: Binding) -> io::Result<()> {
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
pub(super) struct Active {
    pub(super) socket: Socket,
    pub(super) rules: config::ListenerConfig,
    /// Somebody may be waiting to be accepted, or a datagram to be read.
    pub(super) waiting: bool,
    /// Datagram endpoints that its socket had no room for.
    pub(super) blocked: Vec<EndpointId>,
    /// Of a Unix datagram socket.
    pub(super) flow: FlowControl,
}

impl Active {
    pub(super) fn new(socket: Socket, rules: config::ListenerConfig) -> Active {
        Active { socket, rules, waiting: true, blocked: Vec::new(), flow: FlowControl::default() }
    }
}
