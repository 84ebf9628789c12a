//! Looks for dead peers: those that have acknowledged nothing for half a minute although something is outstanding. The
//! kernel detects dead idle peers (keepalive), and the end of Unix peers. A peer that merely does not read still
//! acknowledges.
//!
//! The daemon asks the kernel about a connection only if a write is old enough for the peer to be dead. A request takes
//! a microsecond, most of it for cache misses, and there may be thousands of connections.

use std::time::Duration;

use upcall_engine::{Endpoint, EndpointId, Engine, Now};
use upcall_wire::reason::Reason;

use super::Streams;
use super::connection::Connection;
use super::written::{DEAD, LATE, PERIOD};
use crate::daemon::context::Context;
use crate::daemon::log::debug;

impl Streams {
    /// Looks for dead peers, at the end of a period.
    pub(in crate::daemon) fn check_liveness(&mut self, context: &mut Context, now: Now) {
        let Some(end) = self.next_check.filter(|end| *end <= now.time) else { return };
        let dead = self.silent_peers(&context.engine);
        // Read the clock again after the requests: the process may also have been stopped since the turn began.
        let now = context.clock.now();
        let in_time = now.time.since(end) < LATE;
        let mut any = false;
        for connection in self.connections.values_mut().filter(|connection| connection.written.is_any()) {
            if in_time {
                connection.written.age();
            } else {
                let waits = connection.stream.silence().is_some() || is_behind(&context.engine, connection);
                connection.written.set(waits);
            }
            any |= connection.written.is_any();
        }
        // A period begins when the last one should have ended, so that delays do not add up.
        self.next_check = any.then_some(if in_time { end } else { now.time } + PERIOD);
        for (id, silence) in dead.into_iter().filter(|_| in_time) {
            debug!(context.logger, "a peer has acknowledged nothing for {} s", silence.as_secs());
            context.engine.connection_lost(now, id, Reason::Dead);
        }
    }

    /// Asks the kernel about the peers that may be dead. Returns the dead ones, and for how long each has acknowledged
    /// nothing.
    fn silent_peers(&mut self, engine: &Engine) -> Vec<(EndpointId, Duration)> {
        let mut dead = Vec::new();
        for connection in self.connections.values_mut().filter(|connection| connection.written.is_due()) {
            match connection.stream.silence() {
                Some(silence) if connection.written.outstanding_for(silence) >= DEAD => {
                    dead.extend(connection.endpoint.map(|id| (id, silence)));
                }
                Some(_) => {}
                None => {
                    // A peer with a closed window has nothing outstanding, but may die in that state. So it is checked
                    // again while it is behind.
                    let is_behind = is_behind(engine, connection);
                    connection.written.set(is_behind);
                }
            }
        }
        dead
    }
}

fn is_behind(engine: &Engine, connection: &Connection) -> bool {
    connection.endpoint.and_then(|id| engine.endpoint(id)).is_some_and(Endpoint::is_behind)
}
