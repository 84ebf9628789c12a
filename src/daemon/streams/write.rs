//! From the engine to the sockets, and the end of connections.

use crate::config::Level;
use crate::daemon::log::Count;
use crate::daemon::log::{debug, info, log_at, warning};
use crate::daemon::server::{FAREWELL, Server};
use crate::daemon::streams::accept::{MAX_LINGERING, traffic_level};
use crate::daemon::streams::connection::{ConnectionKey, State};
use crate::net::poller::Interest;
use crate::net::stream::Sent;
use upcall_engine::{Endpoint, EndpointId, Event, Now, Progress, Second, Time};
use upcall_wire::address::Transport;
use upcall_wire::reason::Reason;

/// A connection that has left the registry, and may still be reading.
#[derive(Debug, Clone, Copy)]
pub(in crate::daemon) struct Lingering {
    key: ConnectionKey,
    /// It is closed then at the latest.
    until: Time,
}

impl Server {
    /// Writes what is pending, to everyone whose socket may take it.
    pub(in crate::daemon) fn flush(&mut self, now: Now) {
        let mut ready = std::mem::take(&mut self.ready);
        self.engine.take_ready(&mut ready);
        // Streams at once; of the others those of one listener together.
        ready.retain(|id| match self.engine.endpoint(*id) {
            Some(endpoint) if !endpoint.transport.is_datagram() => {
                let (tag, watchable) = (endpoint.tag, endpoint.transport == Transport::Tcp);
                self.write(now, *id, ConnectionKey::from_token(tag), watchable);
                false
            }
            endpoint => endpoint.is_some(),
        });
        if !ready.is_empty() {
            self.post(now, &mut ready);
        }
        self.ready = ready;
    }

    fn write(&mut self, now: Now, id: EndpointId, key: ConnectionKey, watchable: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        loop {
            let (pending, whole, sent) = match self.engine.single_slice(id) {
                Some(bytes) => (bytes.len(), true, connection.stream.send(bytes)),
                None => {
                    let slices = self.engine.slices(id);
                    let sent = if slices.is_empty() { Sent::Bytes(0) } else { connection.stream.send_all(&slices) };
                    (slices.bytes(), false, sent)
                }
            };
            match sent {
                Sent::Bytes(count) => {
                    // One that was only found out to speak text has nothing to acknowledge.
                    if watchable && count > 0 && connection.written.note() {
                        self.next_look.get_or_insert(now.time + crate::daemon::streams::liveness::PERIOD);
                    }
                    let progress = if whole && count == pending {
                        self.engine.advance_all(now, id);
                        Progress::Done
                    } else {
                        self.engine.advance(now, id, count)
                    };
                    if progress == Progress::Done {
                        if std::mem::take(&mut connection.wants_room) {
                            // It can fail for want of memory only, and then costs an event too many.
                            let _ = self.poller.modify(&connection.stream, key.token(), Interest::Read);
                        }
                        return;
                    }
                    if count < pending {
                        // A short write has filled the socket (epoll(7)): spare the call that would say so.
                        return self.wait_for_room(now, id, key);
                    }
                }
                Sent::Full => return self.wait_for_room(now, id, key),
                Sent::Starved => {
                    self.engine.blocked(now, id);
                    return self.starved.add(now.time, id);
                }
                Sent::Broken(error) => {
                    // What it sent before it broke is still there to be read.
                    // EPIPE only says that the far end reads no more (shutdown(2)): what it sends may still end in peace.
                    if error.raw_os_error() != Some(libc::EPIPE) && connection.state == State::Open {
                        connection.state = State::Broken;
                    }
                    self.engine.close_writes(now, id);
                    return self.mark_readable(key, true);
                }
            }
        }
    }

    fn wait_for_room(&mut self, now: Now, id: EndpointId, key: ConnectionKey) {
        self.engine.blocked(now, id);
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !connection.wants_room {
            connection.wants_room = true;
            if let Err(error) = self.poller.modify(&connection.stream, key.token(), Interest::ReadWrite) {
                connection.wants_room = false;
                warning!(self.log, "cannot watch a connection for room: {error}");
                self.starved.add(now.time, id);
            }
        }
    }

    /// Sees to what the engine has decided.
    pub(in crate::daemon) fn see_off(&mut self, now: Now) {
        while let Some(event) = self.engine.next_event() {
            match event {
                Event::Left { endpoint, reason, complete } => self.left(now, &endpoint, reason, complete),
                Event::InputsHeld(number) => {
                    debug!(self.log, endpoint = number; "inputs wait for #{number}, which is slow");
                }
                Event::PatienceExhausted(number) => {
                    info!(self.log, endpoint = number; "inputs go on without waiting for #{number}, whose patience is used up");
                }
                Event::Unparked(tag) => self.mark_readable(ConnectionKey::from_token(tag), false),
                Event::InputsReleased => debug!(self.log, "inputs no longer wait"),
            }
        }
    }

    fn left(&mut self, now: Now, endpoint: &Endpoint, reason: Reason, complete: bool) {
        let Endpoint { number, peer, inputs, upcalls, .. } = endpoint;
        let (inputs, upcalls) = (Count(*inputs, "input"), Count(*upcalls, "upcall"));
        let lasted = Second::from(now.time).since(endpoint.registered);
        let rest = if complete || !reason.is_announced() { "" } else { ", it did not read the rest" };
        let remain = self.engine.registered();
        let (name, level) = match self.listeners.get(&endpoint.listener) {
            Some(active) if reason == Reason::Closed => (active.rules.name.as_str(), traffic_level(active.rules.role)),
            Some(active) => (active.rules.name.as_str(), Level::Info),
            None => ("?", Level::Info),
        };
        log_at!(
            level, self.log, endpoint = number, listener = name, peer = peer, reason = reason;
            "#{number} left: {reason}; {peer}, {inputs}, {upcalls}, {lasted} s{rest}; {remain} registered"
        );
        if endpoint.transport.is_datagram() {
            // Who has left has closed, and hears that it has: only those who seem to be gone are told nothing.
            if !complete && (reason.is_announced() || reason == Reason::Closed) {
                self.bid_farewell(endpoint, reason);
            }
            return self.forget_peer(endpoint.tag);
        }
        let key = ConnectionKey::from_token(endpoint.tag);
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.endpoint = None;
        if connection.state == State::Ended || reason == Reason::Dead || !complete {
            if !complete {
                connection.stream.abort_on_close();
            }
            self.close(key);
        } else {
            self.linger(now, key);
        }
    }

    /// Ends our side of a connection, and waits for the far end to end its own.
    pub(in crate::daemon) fn linger(&mut self, now: Now, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.stream.end();
        connection.discard = true;
        if self.lingering.len() >= MAX_LINGERING && self.drain.is_none() {
            return self.close(key);
        }
        let until = self.drain.as_ref().map_or(now.time + FAREWELL, |drain| drain.deadline);
        self.lingering.add(now.time, Lingering { key, until });
        self.mark_readable(key, false);
    }

    /// A connection has lingered for a while: it is closed, unless it is still reading.
    pub(in crate::daemon) fn stop_lingering(&mut self, now: Now, lingering: Lingering) {
        let Some(connection) = self.connections.get(lingering.key) else { return };
        if now.time < lingering.until && connection.stream.is_pending() {
            self.lingering.add(now.time, lingering);
        } else {
            self.close(lingering.key);
        }
    }

    /// Closes a connection that has left the registry.
    pub(in crate::daemon) fn close(&mut self, key: ConnectionKey) {
        // Its file descriptor may be the one that accepting waits for.
        if self.connections.remove(key).is_some() {
            self.exhausted.clear();
        }
    }
}
