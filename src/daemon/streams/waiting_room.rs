//! Connections for which there is no room: one that resumes a session whose connection is still there may take its place. Its
//! HELLO comes with the connection, so that it need not be waited for long; who has not said it by then is refused.

use std::time::Duration;

use crate::daemon::server::Server;
use crate::daemon::streams::connection::ConnectionKey;
use crate::daemon::streams::read::Next;
use upcall_engine::{Now, Registration};
use upcall_wire::frame::{Frame, FrameDecoder, Resume};
use upcall_wire::reason::Refusal;

/// How long somebody may take to say that he goes on with a session.
pub(in crate::daemon) const PATIENCE: Duration = Duration::from_millis(50);

/// How many may stand there at a time; above that they are refused at once.
const ROOM: usize = 64;

/// The first bytes that are looked at: a HELLO with the longest token fits, and a resuming one needs no filters.
const HELLO: usize = 2048;

/// Somebody at the door.
#[derive(Debug, Clone, Copy)]
pub(in crate::daemon) struct Caller {
    pub(in crate::daemon) key: ConnectionKey,
    pub(in crate::daemon) who: Registration,
    /// Why there is no room.
    pub(in crate::daemon) refusal: Refusal,
}

impl Server {
    /// There is no room for somebody who may speak native.
    pub(in crate::daemon) fn wait_at_door(&mut self, now: Now, caller: Caller) {
        if self.door.len() >= ROOM {
            return self.refuse(now, caller.key, caller.who.peer, caller.refusal);
        }
        self.door.add(now.time, caller);
    }

    /// Somebody at the door has said something.
    pub(in crate::daemon) fn look_at_door(&mut self, now: Now, key: ConnectionKey) -> Next {
        let Some(caller) = self.door.iter().find(|caller| caller.key == key).copied() else { return Next::Idle };
        self.decide(now, caller)
    }

    /// Decides on those who have been there for long enough: some may have spoken while nobody is heard, because inputs wait.
    pub(in crate::daemon) fn clear_door(&mut self, now: Now) {
        while let Some(caller) = self.door.pop(now.time) {
            // Who was let in has an endpoint, and who was refused is not heard.
            let connection = self.connections.get(caller.key);
            if connection.is_some_and(|connection| connection.endpoint.is_none() && !connection.discard)
                && self.decide(now, caller) == Next::Later
            {
                self.mark_readable(caller.key, false);
            }
        }
    }

    fn decide(&mut self, now: Now, Caller { key, who, refusal }: Caller) -> Next {
        // A reload may have taken away what it came to.
        let stands = self.connections.get(key).filter(|_| self.listeners.contains_key(&who.listener));
        let resume = stands.and_then(|connection| {
            let mut bytes = [0; HELLO];
            let count = connection.stream.peek(&mut bytes)?;
            resumes(&bytes[..count])
        });
        let over = resume.and_then(|resume| self.engine.superseded_by(&resume, who.peer));
        match over.map(|over| self.engine.register_superseding(now, who, Some(over))) {
            Some(Ok(endpoint)) => {
                self.enter(key, endpoint);
                // What it has said is still to be read.
                Next::Later
            }
            _ => {
                self.refuse(now, key, who.peer, refusal);
                Next::Idle
            }
        }
    }
}

/// Which session somebody resumes who begins like that.
fn resumes(mut bytes: &[u8]) -> Option<Resume> {
    match FrameDecoder::default().next(&mut bytes, HELLO) {
        Ok(Some(Frame::Hello(hello))) => hello.resume,
        _ => None,
    }
}
