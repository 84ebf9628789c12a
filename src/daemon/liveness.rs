//! Dead peers: those that have acknowledged nothing for half a minute although something is outstanding. Idle ones are
//! the kernel's to find (keepalive), Unix peers cannot vanish, and one that merely does not read acknowledges all the same.

use std::time::Duration;

use super::connection::ConnectionKey;
use super::log::debug;
use super::server::Server;
use crate::engine::{Endpoint, Now, Time};
use crate::wire::reason::Reason;

/// How often a connection is looked at, from when something is sent until everything is acknowledged.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// How long a peer may acknowledge nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// A connection over which something was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched {
    pub(super) key: ConnectionKey,
    /// What is outstanding has been since then at the latest, unless something was acknowledged meanwhile.
    pub(super) since: Time,
}

impl Server {
    pub(super) fn check_liveness(&mut self, now: Now) {
        while let Some(Watched { key, mut since }) = self.watched.pop(now.time) {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let endpoint = connection.endpoint.and_then(|endpoint| self.engine.endpoint(endpoint));
            let Some(silence) = connection.stream.silence() else {
                // One whose window is closed has nothing outstanding, and may vanish like that.
                connection.watched = endpoint.is_some_and(Endpoint::is_behind);
                if connection.watched {
                    self.watched.add(now.time, Watched { key, since });
                }
                continue;
            };
            if now.time.since(since) > silence {
                // Something was acknowledged: what is outstanding now may have been sent this moment.
                since = now.time;
            } else if now.time.since(since) >= SILENCE
                && let Some(endpoint) = connection.endpoint
            {
                debug!(self.log, "a peer has acknowledged nothing for {} s", silence.as_secs());
                self.engine.lost(now, endpoint, Reason::Dead);
                continue;
            }
            self.watched.add(now.time, Watched { key, since });
        }
    }
}
