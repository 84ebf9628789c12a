//! What SIGUSR1 logs: who is registered, and what has happened so far.

use crate::daemon::listeners::Socket;
use crate::daemon::log::Count;
use crate::daemon::log::info;
use crate::daemon::server::Server;
use crate::net::datagram::Kept;
use upcall_engine::{Dropped, Second};
use upcall_wire::reason::{Reason, Refusal};

/// Endpoints listed one by one; a registry may hold very many.
const LISTED: usize = 100;

impl Server {
    pub(in crate::daemon) fn summary(&mut self) {
        let now = self.clock.now();
        let counters = self.engine.counters();
        let (memory, size) = self.engine.log_memory();
        info!(
            self.log,
            "summary: {}, {} of them registered for upcalls, {} behind; {} came since the start; {}, {}; inputs waited {}; log {} of {} KiB, next sequence {}; {} dropped",
            Count(self.engine.len(), "endpoint"),
            self.engine.registered(),
            self.engine.behind(),
            counters.registered,
            Count(counters.inputs, "input"),
            Count(counters.upcalls, "upcall"),
            Count(counters.waits, "time"),
            memory / 1024,
            size / 1024,
            self.engine.next_sequence(),
            Count(self.log.dropped(), "log line"),
        );
        for (number, active) in &self.listeners {
            let count = self.engine.endpoints().filter(|(_, endpoint)| endpoint.listener == *number).count();
            let kept = match &active.socket {
                Socket::Datagrams(socket) => socket.kept().ok(),
                Socket::Streams(_) => None,
            };
            let mut more = String::new();
            if let Some(Kept { sending, send_buffer, dropped }) = kept {
                if sending > 0 && !active.socket.address().transport().is_inet() {
                    more += &format!(", {} of {} KiB unread", sending.div_ceil(1024), send_buffer / 1024);
                }
                if dropped > 0 {
                    more += &format!(", {} found no room", Count(dropped, "datagram"));
                }
            }
            let count = Count(count, "endpoint");
            info!(self.log, "summary: {} on {}: {count}{more}", active.rules.name, active.socket.address());
        }
        let left = Reason::ALL.into_iter().map(|reason| (reason.name(), counters.left(reason)));
        let refused = Refusal::ALL.into_iter().map(|refusal| (refusal.name(), counters.refused(refusal)));
        let dropped = Dropped::ALL.into_iter().map(|reason| (reason.name(), counters.dropped(reason)));
        let (left, refused, dropped) = (list(left), list(refused), list(dropped));
        info!(
            self.log,
            "summary: left: {left}; refused: {refused}; datagrams dropped: {dropped}; upcalls skipped: {}; \
             gaps announced: {}; mistakes of native clients: {}; sessions to be resumed: {}",
            counters.skipped,
            counters.gaps,
            counters.violations,
            self.engine.detached_sessions(),
        );
        for (_, endpoint) in self.engine.endpoints().take(LISTED) {
            let name = self.listeners.get(&endpoint.listener).map_or("?", |active| &active.rules.name);
            info!(
                self.log,
                "summary: #{} {}://{} on {name}: registered {} s ago, heard {} s ago, {}, {}{}",
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
        if self.engine.len() > LISTED {
            info!(self.log, "summary: and {} more", Count(self.engine.len() - LISTED, "endpoint"));
        }
    }
}

/// `closed 3, reset 1`: what is not zero.
fn list(counts: impl Iterator<Item = (&'static str, u64)>) -> String {
    let counts: Vec<String> =
        counts.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    if counts.is_empty() { "none".into() } else { counts.join(", ") }
}
