//! The end: nobody new is let in, everyone gets what is due and a farewell, and what is not read in time is given up.

use crate::daemon::listeners::Socket;
use crate::daemon::log::Count;
use crate::daemon::log::{info, warning};
use crate::daemon::server::{Server, settings};
use upcall_engine::{Now, Time};
use upcall_wire::reason::Reason;

/// The daemon is ending.
#[derive(Debug)]
pub(in crate::daemon) struct Drain {
    pub(in crate::daemon) deadline: Time,
    /// It was told so twice: it ends at once.
    at_once: bool,
}

impl Server {
    /// A signal to end has come.
    pub(in crate::daemon) fn end(&mut self) {
        if let Some(drain) = &mut self.drain {
            info!(self.log, "ending at once");
            drain.at_once = true;
            return;
        }
        let now = self.clock.now();
        let grace = self.config.daemon.shutdown_grace;
        self.notifier.stopping(now.time, grace);
        info!(
            self.log,
            "draining: {}, at most {}; another signal ends at once",
            Count(self.engine.len(), "endpoint"),
            humantime::format_duration(grace)
        );
        self.drain = Some(Drain { deadline: now.time + grace, at_once: false });
        for number in self.listeners.keys().copied().collect::<Vec<_>>() {
            // Whoever is waiting to be accepted is told, rather than reset with the socket; unless it stays, for the next
            // daemon to accept them.
            if !self.is_inherited(number) {
                self.accept_all(now, number);
            }
            // Datagram sockets still have the farewells to send.
            if self.listeners.get(&number).is_some_and(|active| matches!(active.socket, Socket::Streams(_))) {
                self.remove_listener(number);
            }
        }
        self.engine.reconfigure(now, upcall_engine::Settings { farewell: grace, ..settings(&self.config) });
        let everyone: Vec<_> = self.engine.endpoints().map(|(id, _)| id).collect();
        for endpoint in everyone {
            self.engine.leave(now, endpoint, Reason::Shutdown);
            self.discard_inputs(endpoint);
        }
    }

    /// Whether there is nothing left to do.
    pub(in crate::daemon) fn is_over(&mut self, now: Now) -> bool {
        let Some(drain) = &self.drain else { return false };
        if self.connections.is_empty() && self.engine.is_empty() {
            return true;
        }
        let over = drain.at_once || now.time >= drain.deadline;
        if over && !self.engine.is_empty() {
            warning!(self.log, "{} did not read everything that was due", Count(self.engine.len(), "endpoint"));
            // Over datagrams, nothing but this tells that it is over.
            let left = self.engine.endpoints().filter(|(_, endpoint)| endpoint.transport.is_datagram());
            for endpoint in left.map(|(id, _)| id).collect::<Vec<_>>() {
                self.engine.connection_lost(now, endpoint, Reason::Shutdown);
            }
            self.see_off(now);
        }
        over
    }
}
