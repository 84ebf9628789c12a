//! What a client hears of.

use std::time::{Duration, SystemTime};

use super::{Error, Foreign};
use crate::machine::{Event, Loss, Upcall};

impl Upcall {
    /// When the daemon received it.
    pub fn received(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.time)
    }
}

/// What names an input that was posted, until its receipt comes.
pub type InputId = u64;

/// Something that a client hears of, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// An upcall.
    Upcall(Upcall),
    /// Upcalls that will not come.
    Gap(Gap),
    /// The connection is gone. It is made again by itself.
    Disconnected {
        /// Why.
        error: Error,
        /// When it is tried next.
        retry_in: Duration,
    },
    /// The connection is there again.
    Reconnected {
        /// The session goes on: nothing is missing but what a gap names. Otherwise it is a new one; what was said meanwhile is
        /// a gap, too, where the log is the same.
        resumed: bool,
        /// The daemon has another log than before, as after a restart: sequences begin anew, and what was said in between
        /// is not known.
        new_log: bool,
        /// The first sequence that may come.
        start: u64,
    },
    /// What became of an input that was posted.
    SendResult {
        /// What [`super::Client::submit`] returned.
        input: InputId,
        /// A receipt; [`Error::Unknown`] where that cannot be known any more; [`Error::Refused`] where it was not taken.
        result: Result<Receipt, Error>,
    },
    /// Datagrams of another user were dropped, on a Unix socket: somebody who is not the daemon sends to this client. Reported
    /// once for each socket.
    Foreign(Foreign),
    /// The daemon complains of something that no call of ours explains.
    Complaint(Error),
}

/// Sequences that a client does not get. They need not all have been due to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Why.
    pub loss: Loss,
}

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its place in the one order.
    pub sequence: u64,
    /// How many endpoints it was due to, the sender excluded.
    pub receivers: u32,
    /// The daemon had taken it before: the first receipt was lost.
    pub repeat: bool,
}

/// The filters that are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The first sequence that they go for.
    pub from: u64,
    /// No filter was ever given: everything is due.
    pub everything: bool,
    /// All of them.
    pub filters: Vec<String>,
}

/// What the library says of an event; none where only a call waits for it.
pub(super) fn item(event: Event) -> Option<Item> {
    Some(match event {
        Event::Welcomed { resumed, new_log, start, .. } => Item::Reconnected { resumed, new_log, start },
        Event::Upcall(upcall) => Item::Upcall(upcall),
        Event::Gap { first, last, loss } => Item::Gap(Gap { first, last, loss }),
        Event::Receipt { ticket, sequence, due, repeat } => {
            Item::SendResult { input: ticket, result: Ok(Receipt { sequence, receivers: due, repeat }) }
        }
        Event::Unknown { ticket } => Item::SendResult { input: ticket, result: Err(Error::Unknown) },
        Event::Rejected { ticket, code, text } => {
            Item::SendResult { input: ticket, result: Err(Error::refused(code, &text)) }
        }
        Event::Complaint { code, text } => Item::Complaint(Error::refused(code, &text)),
        // Whoever asked has had the answer, or has given up.
        Event::Subscribed { .. } | Event::NotSubscribed { .. } | Event::Pong { .. } | Event::Down(_) => {
            return None;
        }
    })
}
