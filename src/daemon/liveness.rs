//! Dead peers: those that have acknowledged nothing for half a minute although something is outstanding. Idle ones are
//! the kernel's to find (keepalive), Unix peers cannot vanish, and one that merely does not read acknowledges all the same.

use std::time::Duration;

use super::log::debug;
use super::server::Server;
use crate::engine::{Endpoint, Now};
use crate::wire::reason::Reason;

/// How often connections are looked at, from when something is sent until everything is acknowledged.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// A peer is dead that was found so often in a row to have something outstanding, and has acknowledged nothing since the first
/// time: that is half a minute.
const LOOKS: u8 = 3;

impl Server {
    pub(super) fn check_liveness(&mut self, now: Now) {
        if self.next_look.is_none_or(|time| time > now.time) {
            return;
        }
        let (mut dead, mut any) = (Vec::new(), false);
        for connection in self.connections.values_mut().filter(|connection| connection.looks > 0) {
            let endpoint = connection.endpoint.and_then(|id| self.engine.endpoint(id));
            connection.looks = match (connection.stream.silence(), connection.endpoint) {
                // One whose window is closed has nothing outstanding, and may vanish like that.
                (None, _) => u8::from(endpoint.is_some_and(Endpoint::is_behind)),
                // Something was acknowledged since: what is outstanding now is another thing.
                (Some(silence), _) if silence < PERIOD => 2,
                (Some(silence), Some(id)) if connection.looks > LOOKS => {
                    debug!(self.log, "a peer has acknowledged nothing for {} s", silence.as_secs());
                    dead.push(id);
                    0
                }
                (Some(_), _) => connection.looks.saturating_add(1),
            };
            any |= connection.looks > 0;
        }
        self.next_look = any.then_some(now.time + PERIOD);
        for id in dead {
            self.engine.lost(now, id, Reason::Dead);
        }
    }
}
