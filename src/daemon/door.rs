//! Connections for which there is no room: one that resumes a session whose connection is still there may take its place. Its
//! HELLO comes with the connection, so that it need not be waited for long; who has not said it by then is refused.

use std::time::Duration;

use super::connection::ConnectionKey;
use super::receive::Next;
use super::server::Server;
use crate::engine::{Now, Registration};
use crate::wire::frame::{Decoder, Frame, Resume};
use crate::wire::reason::Refusal;

/// How long somebody may take to say that he goes on with a session.
pub(super) const PATIENCE: Duration = Duration::from_millis(50);

/// How many may stand there at a time; above that they are refused at once.
const ROOM: usize = 64;

/// The first bytes that are looked at: a HELLO with the longest token fits, and a resuming one needs no filters.
const HELLO: usize = 2048;

/// Somebody at the door.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) key: ConnectionKey,
    pub(super) who: Registration,
    /// Why there is no room.
    pub(super) refusal: Refusal,
}

impl Server {
    /// There is no room for somebody who may speak native.
    pub(super) fn wait_at_door(&mut self, now: Now, caller: Caller) {
        if self.door.len() >= ROOM {
            return self.refuse(now, caller.key, caller.who.peer, caller.refusal);
        }
        self.door.add(now.time, caller);
    }

    /// Somebody at the door has said something.
    pub(super) fn look_at_door(&mut self, now: Now, key: ConnectionKey) -> Next {
        let Some(caller) = self.door.iter().find(|caller| caller.key == key).copied() else { return Next::Idle };
        let resume = self.connections.get(key).and_then(|connection| {
            let mut bytes = [0; HELLO];
            let count = connection.stream.peek(&mut bytes)?;
            resumes(&bytes[..count])
        });
        let over = resume.and_then(|resume| self.engine.superseded_by(&resume, caller.who.peer));
        match over.map(|over| self.engine.register_over(now, caller.who, Some(over))) {
            Some(Ok(endpoint)) => {
                self.enter(key, endpoint);
                // What it has said is still to be read.
                Next::Later
            }
            _ => {
                self.refuse(now, key, caller.who.peer, caller.refusal);
                Next::Idle
            }
        }
    }

    /// Refuses those who have said nothing for too long.
    pub(super) fn clear_door(&mut self, now: Now) {
        while let Some(Caller { key, who, refusal }) = self.door.pop(now.time) {
            // Who was let in has an endpoint, and who was refused is not heard.
            let waits =
                |connection: &super::connection::Connection| connection.endpoint.is_none() && !connection.discard;
            if self.connections.get(key).is_some_and(waits) {
                self.refuse(now, key, who.peer, refusal);
            }
        }
    }
}

/// Which session somebody resumes who begins like that.
fn resumes(mut bytes: &[u8]) -> Option<Resume> {
    match Decoder::default().next(&mut bytes, HELLO) {
        Ok(Some(Frame::Hello(hello))) => hello.resume,
        _ => None,
    }
}
