//! The summary that SIGUSR1 logs: counters, listeners and endpoints.

use upcall_engine::{Dropped, Second};
use upcall_wire::reason::{Reason, Refusal};

use crate::daemon::context::Context;
use crate::daemon::listeners::ListenerSocket;
use crate::daemon::log::{Count, info};
use crate::daemon::rooms::Rooms;
use crate::net::datagram::BufferUsage;

/// At most this many endpoints are listed one by one, because a registry may hold many thousands.
const LISTED: usize = 100;

pub(in crate::daemon) fn log(rooms: &mut Rooms) {
    let Rooms { context: Context { engine, logger, clock, .. }, listeners, .. } = rooms;
    let now = clock.now();
    let counters = engine.counters();
    let (memory, size) = engine.log_memory();
    info!(
        logger,
        "summary: {}, {} of them registered for upcalls, {} behind; {} registered since the start; {}, {}; \
         inputs waited {}; log {} of {} KiB, next sequence {}; {} dropped",
        Count(engine.len(), "endpoint"),
        engine.registered(),
        engine.behind(),
        counters.registered,
        Count(counters.inputs, "input"),
        Count(counters.upcalls, "upcall"),
        Count(counters.waits, "time"),
        memory / 1024,
        size / 1024,
        engine.next_sequence(),
        Count(logger.dropped(), "log line"),
    );
    for (number, listener) in listeners.iter() {
        let count = engine.endpoints().filter(|(_, endpoint)| endpoint.listener == number).count();
        let kept = match &listener.socket {
            ListenerSocket::Datagrams(socket) => socket.buffer_usage().ok(),
            ListenerSocket::Streams(_) => None,
        };
        let mut more = String::new();
        if let Some(BufferUsage { sending, send_buffer, dropped }) = kept {
            if sending > 0 && !listener.socket.address().transport().is_inet() {
                more += &format!(", {} of {} KiB unread", sending.div_ceil(1024), send_buffer / 1024);
            }
            if dropped > 0 {
                more += &format!(", {} dropped because the receive buffer was full", Count(dropped, "datagram"));
            }
        }
        let count = Count(count, "endpoint");
        info!(logger, "summary: {} on {}: {count}{more}", listener.rules.name, listener.socket.address());
    }
    let left = Reason::ALL.into_iter().map(|reason| (reason.name(), counters.left(reason)));
    let refused = Refusal::ALL.into_iter().map(|refusal| (refusal.name(), counters.refused(refusal)));
    let dropped = Dropped::ALL.into_iter().map(|reason| (reason.name(), counters.dropped(reason)));
    let (left, refused, dropped) = (list(left), list(refused), list(dropped));
    info!(
        logger,
        "summary: left: {left}; refused: {refused}; datagrams dropped: {dropped}; upcalls skipped: {}; \
             gaps announced: {}; errors reported to native clients: {}; detached sessions: {}",
        counters.skipped,
        counters.gaps,
        counters.violations,
        engine.detached_sessions(),
    );
    for (_, endpoint) in engine.endpoints().take(LISTED) {
        let name = listeners.name_of(endpoint.listener);
        info!(
            logger,
            "summary: #{} {}://{} on {name}: registered {} s ago, last received {} s ago, {}, {}{}",
            endpoint.number,
            endpoint.transport,
            endpoint.peer,
            Second::from(now.time).since(endpoint.registered),
            Second::from(now.time).since(endpoint.last_received),
            Count(endpoint.inputs, "input"),
            Count(endpoint.upcalls, "upcall"),
            if endpoint.is_behind() { ", behind" } else { "" },
        );
    }
    if engine.len() > LISTED {
        info!(logger, "summary: and {} more", Count(engine.len() - LISTED, "endpoint"));
    }
}

/// Lists the counts that are not zero: `closed 3, reset 1`.
fn list(counts: impl Iterator<Item = (&'static str, u64)>) -> String {
    let counts: Vec<String> =
        counts.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    if counts.is_empty() { "none".into() } else { counts.join(", ") }
}
