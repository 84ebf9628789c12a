//! Writes from the engine to the socket of a connection.

use upcall_engine::{EndpointId, Now, Progress};

use super::Streams;
use super::connection::{Connection, FarEnd};
use super::written::PERIOD;
use crate::daemon::context::Context;
use crate::daemon::log::warning;
use crate::daemon::tokens::{ConnectionKey, EventToken};
use crate::net::poller::Interest;
use crate::net::stream::WriteOutcome;

impl Streams {
    /// Writes what is due to an endpoint, until its socket is full. `can_vanish`: the peer may be on another machine,
    /// so its liveness is checked after a write.
    pub(in crate::daemon) fn write(
        &mut self,
        context: &mut Context,
        now: Now,
        id: EndpointId,
        key: ConnectionKey,
        can_vanish: bool,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        loop {
            let (pending, whole, sent) = match context.engine.single_slice(id) {
                Some(bytes) => (bytes.len(), true, connection.stream.send(bytes)),
                None => {
                    let slices = context.engine.slices(id);
                    let sent = if slices.is_empty() {
                        WriteOutcome::Bytes(0)
                    } else {
                        connection.stream.send_vectored(&slices)
                    };
                    (slices.bytes(), false, sent)
                }
            };
            match sent {
                WriteOutcome::Bytes(count) => {
                    // With a count of 0, nothing was written: an endpoint is also ready once it is known to speak text.
                    if can_vanish && count > 0 && connection.written.note() {
                        self.next_check.get_or_insert(now.time + PERIOD);
                    }
                    let progress = if whole && count == pending {
                        context.engine.advance_all(now, id);
                        Progress::Done
                    } else {
                        context.engine.advance(now, id, count)
                    };
                    if progress == Progress::Done {
                        return connection.stop_awaiting_room(context, key);
                    }
                    if count < pending {
                        // A short write has filled the socket (epoll(7)). Another one would only confirm that.
                        return connection.await_room(context, now, id, key);
                    }
                }
                WriteOutcome::Full => return connection.await_room(context, now, id, key),
                WriteOutcome::NoMemory => {
                    context.engine.blocked(now, id);
                    return context.timers.no_memory.add(now.time, id);
                }
                WriteOutcome::Broken(error) => {
                    // Bytes that the far end sent before can still be read. EPIPE only means that it reads no more
                    // (shutdown(2)): it may still send, and end the stream cleanly.
                    if error.raw_os_error() != Some(libc::EPIPE) && connection.far_end == FarEnd::Open {
                        connection.far_end = FarEnd::Broken;
                    }
                    context.engine.close_writes(now, id);
                    return self.mark_readable(key, true);
                }
            }
        }
    }
}

impl Connection {
    /// Waits until the full socket has room, which the poller reports.
    fn await_room(&mut self, context: &mut Context, now: Now, id: EndpointId, key: ConnectionKey) {
        context.engine.blocked(now, id);
        if self.awaits_room {
            return;
        }
        match context.poller.modify(&self.stream, EventToken::Connection(key).encode(), Interest::ReadWrite) {
            Ok(()) => self.awaits_room = true,
            Err(error) => {
                warning!(context.logger, "cannot watch a connection for room: {error}");
                context.timers.no_memory.add(now.time, id);
            }
        }
    }

    fn stop_awaiting_room(&mut self, context: &mut Context, key: ConnectionKey) {
        if std::mem::take(&mut self.awaits_room) {
            // This fails only if memory runs out. The only cost is one superfluous event.
            let _ = context.poller.modify(&self.stream, EventToken::Connection(key).encode(), Interest::Read);
        }
    }
}
