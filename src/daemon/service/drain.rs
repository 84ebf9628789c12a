//! The drain at the end: no more clients are admitted, and every endpoint is sent what is due to it and a farewell.
//! After the grace period, the rest is dropped.

use upcall_engine::{Now, Settings};
use upcall_wire::reason::Reason;

use super::notify::Notifier;
use crate::daemon::context::{Context, Drain, engine_settings};
use crate::daemon::log::{Count, info, warning};
use crate::daemon::rooms::Rooms;

/// Begins the drain, or, on a second signal, ends it at once.
pub(in crate::daemon) fn begin(rooms: &mut Rooms, notifier: &mut Notifier) {
    let Rooms { context, listeners, streams, .. } = rooms;
    if let Some(drain) = &mut context.drain {
        info!(context.logger, "ending at once");
        drain.at_once = true;
        return;
    }
    let now = context.clock.now();
    let grace = context.config.daemon.shutdown_grace;
    notifier.stopping(now.time, grace);
    info!(
        context.logger,
        "draining: {}, at most {}; another signal ends at once",
        Count(context.engine.len(), "endpoint"),
        humantime::format_duration(grace)
    );
    context.drain = Some(Drain { deadline: now.time + grace, at_once: false });
    let numbers: Vec<_> = listeners.iter().map(|(number, listener)| (number, listener.socket.is_stream())).collect();
    for (number, is_stream) in numbers {
        // Clients that are pending get the reason, instead of a reset when the socket is closed. If the socket was
        // handed over, it stays open, and the next daemon accepts them.
        if !listeners.is_inherited(number) {
            streams.accept_all(context, listeners, now, number);
        }
        // Datagram sockets still have farewells to send.
        if is_stream {
            listeners.remove(context, number);
        }
    }
    context.engine.reconfigure(now, Settings { farewell: grace, ..engine_settings(&context.config) });
    let endpoints: Vec<_> = context.engine.endpoints().map(|(id, _)| id).collect();
    for endpoint in endpoints {
        context.engine.leave(now, endpoint, Reason::Shutdown);
        streams.discard_inputs(&context.engine, endpoint);
    }
}

/// Returns whether a drain is over, so that the daemon can end. At the deadline, drops what was not read in time.
pub(in crate::daemon) fn finish(rooms: &mut Rooms, now: Now) -> bool {
    let Context { drain, engine, logger, .. } = &mut rooms.context;
    let Some(drain) = drain else { return false };
    if rooms.streams.is_empty() && engine.is_empty() {
        return true;
    }
    let over = drain.at_once || now.time >= drain.deadline;
    if over && !engine.is_empty() {
        warning!(logger, "{} did not read everything that was due", Count(engine.len(), "endpoint"));
        // A stream is closed by the kernel. A datagram peer learns that it is over only from a farewell.
        let left = engine.endpoints().filter(|(_, endpoint)| endpoint.transport.is_datagram());
        for endpoint in left.map(|(id, _)| id).collect::<Vec<_>>() {
            engine.connection_lost(now, endpoint, Reason::Shutdown);
        }
        rooms.handle_events(now);
    }
    over
}
