//! Single datagrams that are not upcalls: challenges, answers to a HELLO, farewells. They are sent once. If a challenge
//! or an answer is lost, the client repeats its request.

use std::io::IoSlice;

use upcall_engine::{Endpoint, ListenerNumber};
use upcall_wire::frame::Frame;
use upcall_wire::frame::datagram::Envelope;
use upcall_wire::reason::Reason;

use super::Datagrams;
use super::peers::Route;
use super::source::PeerSource;
use crate::daemon::listeners::Listeners;
use crate::daemon::log::Logger;
use crate::daemon::tokens::PeerKey;
use crate::net::datagram::BatchBuffer;

impl Datagrams {
    /// Answers a datagram. Its source may be unregistered.
    pub(super) fn answer(&mut self, logger: &mut Logger, listeners: &Listeners, source: &PeerSource, bytes: &[u8]) {
        if let Ok(route) = source.route(logger) {
            send_once(&mut self.batches, listeners, source.listener, &route, bytes);
        }
    }

    /// Answers a datagram with a frame without an envelope.
    pub(super) fn answer_frame(
        &mut self,
        logger: &mut Logger,
        listeners: &Listeners,
        source: &PeerSource,
        frame: &Frame<'_>,
    ) {
        self.answer(logger, listeners, source, &frame.to_vec());
    }

    /// Sends a BYE to a native peer that left before it acknowledged everything. Text peers get nothing here: the
    /// engine sends their farewell as it sends an upcall.
    pub(super) fn send_farewell(&mut self, listeners: &Listeners, endpoint: &Endpoint, reason: Reason) {
        if let Some(welcome) = endpoint.welcome()
            && let Some(peer) = self.peers.get(PeerKey::from_tag(endpoint.tag))
        {
            let mut bytes = Vec::new();
            Envelope { key: welcome.key, number: 0 }.write(&mut bytes);
            Frame::Bye(reason.name()).write(&mut bytes);
            send_once(&mut self.batches, listeners, endpoint.listener, &peer.route, &bytes);
        }
    }
}

fn send_once(batches: &mut BatchBuffer, listeners: &Listeners, number: ListenerNumber, route: &Route, bytes: &[u8]) {
    let Some(socket) = listeners.datagram_socket(number) else { return };
    let (destination, local) = route.destination();
    let mut batch = socket.batch(batches);
    batch.push(destination, local, [IoSlice::new(bytes)], None);
    let _ = batch.send();
}
