//! The end of a connection: dismissed, refused, broken, or removed from the registry. Bytes that arrive afterwards are
//! discarded until the far end closes its side.

use std::io;

use upcall_engine::{EndpointId, Engine, Now};
use upcall_wire::address::Peer;
use upcall_wire::farewell::Farewell;
use upcall_wire::reason::{Reason, Refusal};

use super::connection::{Connection, Decoder, FarEnd};
use super::{NextRead, Streams, key_of};
use crate::config::Level;
use crate::daemon::context::{Context, FAREWELL};
use crate::daemon::listeners::Listeners;
use crate::daemon::timers::Lingering;
use crate::daemon::tokens::ConnectionKey;
use crate::daemon::traffic;
use crate::net::stream::ReadOutcome;

/// At most this many reads of one connection are discarded in a turn.
const DISCARDS: usize = 2;

/// At most this many connections linger after they were refused or have left. Further ones are closed at once.
const MAX_LINGERING: usize = 256;

impl Connection {
    /// Makes the connection leave. The rest of its input is discarded.
    pub(super) fn dismiss(&mut self, context: &mut Context, now: Now, reason: Reason) -> NextRead {
        self.discards = true;
        match self.endpoint {
            Some(endpoint) if matches!(self.decoder, Decoder::Native(_)) => context.engine.leave(now, endpoint, reason),
            Some(endpoint) => context.engine.reject(now, endpoint, reason),
            None => {}
        }
        NextRead::Later
    }

    /// Discards the rest of the connection's input.
    pub(super) fn discard(&mut self) -> NextRead {
        self.discards = true;
        NextRead::Later
    }

    /// Handles a broken connection: removes its endpoint, if it has one.
    pub(super) fn broken(&mut self, context: &mut Context, now: Now, reason: Reason) -> NextRead {
        self.far_end = FarEnd::Ended;
        if let Some(endpoint) = self.endpoint {
            context.engine.connection_lost(now, endpoint, reason);
        }
        NextRead::OnEvent
    }
}

impl Streams {
    /// Discards what the connection of an endpoint sends from now on.
    pub(in crate::daemon) fn discard_inputs(&mut self, engine: &Engine, endpoint: EndpointId) {
        let Some(key) = key_of(engine, endpoint) else { return };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.discards = true;
            self.mark_readable(key, false);
        }
    }

    /// Sends the reason to a connection that is not admitted. The connection is closed when the far end has closed its
    /// side, or after a while. If it were closed at once, the kernel would reset it for unread input, and the reason
    /// would be lost.
    pub(super) fn refuse(
        &mut self,
        context: &mut Context,
        listeners: &Listeners,
        now: Now,
        key: ConnectionKey,
        peer: Peer,
        reason: Refusal,
    ) {
        context.engine.counters_mut().count_refused(reason);
        let Some(connection) = self.connections.get(key) else { return };
        traffic::log_refused(context, listeners, Level::Info, connection.listener, peer, reason);
        // A new socket has room for a line. If it is broken, there is no peer to read it.
        let _ = connection.stream.send(Farewell::line(reason.name()).as_bytes());
        self.linger(context, now, key);
    }

    /// Handles a connection whose endpoint has left the registry. `complete`: everything due to it was written.
    pub(in crate::daemon) fn left(
        &mut self,
        context: &mut Context,
        now: Now,
        key: ConnectionKey,
        reason: Reason,
        complete: bool,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.endpoint = None;
        if complete && connection.far_end != FarEnd::Ended && reason != Reason::Dead {
            return self.linger(context, now, key);
        }
        if !complete {
            connection.stream.abort_on_close();
        }
        self.close(context, key);
    }

    /// Closes our side of a connection, and waits until the far end closes its own.
    fn linger(&mut self, context: &mut Context, now: Now, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.stream.end();
        connection.discards = true;
        if context.timers.lingering.len() >= MAX_LINGERING && context.drain.is_none() {
            return self.close(context, key);
        }
        let until = context.drain.as_ref().map_or(now.time + FAREWELL, |drain| drain.deadline);
        context.timers.lingering.add(now.time, Lingering { key, until });
        self.mark_readable(key, false);
    }

    /// Closes the connections that have lingered for a period. One that has not received everything yet lingers for
    /// another period, until its deadline.
    pub(in crate::daemon) fn end_lingering(&mut self, context: &mut Context, now: Now) {
        while let Some(lingering) = context.timers.lingering.pop(now.time) {
            let Some(connection) = self.connections.get(lingering.key) else { continue };
            if now.time < lingering.until && connection.stream.is_pending() {
                context.timers.lingering.add(now.time, lingering);
            } else {
                self.close(context, lingering.key);
            }
        }
    }

    /// Reads from a connection whose input is discarded.
    pub(super) fn read_and_discard(&mut self, context: &mut Context, now: Now, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.in_discarding = false;
        connection.unread = None;
        for _ in 0..DISCARDS {
            match connection.stream.receive(&mut self.buffer) {
                ReadOutcome::Bytes(_) => {}
                ReadOutcome::Drained => return connection.readable = false,
                ReadOutcome::End | ReadOutcome::Broken(_) if connection.endpoint.is_none() => {
                    return self.close(context, key);
                }
                ReadOutcome::End => {
                    connection.far_end = FarEnd::Ended;
                    return connection.readable = false;
                }
                ReadOutcome::Broken(error) => {
                    connection.readable = false;
                    connection.broken(context, now, reason_of(&error));
                    return;
                }
            }
        }
        self.mark_readable(key, false);
    }

    /// Closes a connection that is not registered.
    pub(super) fn close(&mut self, context: &mut Context, key: ConnectionKey) {
        // If accepting is paused because there were no file descriptors, there is one now.
        if self.connections.remove(key).is_some() {
            context.timers.no_descriptors.clear();
        }
    }
}

/// The reason for the end of a connection after an error: the peer is dead if keepalive or retransmission has given up
/// (tcp(7)), otherwise the connection was reset.
pub(super) fn reason_of(error: &io::Error) -> Reason {
    match error.raw_os_error() {
        Some(libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH) => Reason::Dead,
        _ => Reason::Reset,
    }
}
