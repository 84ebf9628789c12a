//! What a client receives, and the answers to its calls.

use std::time::Duration;

use super::Error;
use crate::machine::{Event, InputId, Loss, Upcall};
use crate::socket::owner::ForeignSender;

/// What a client receives, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// An upcall.
    Upcall(Upcall),
    /// A range of sequences that the client does not receive.
    Gap(Gap),
    /// The connection is lost. The client reconnects by itself, and further items follow.
    Disconnected {
        /// The reason.
        error: Error,
        /// The time until the next attempt.
        retry_in: Duration,
    },
    /// The client is registered again.
    Reconnected {
        /// Whether the session was resumed. If so, a [`Gap`] reports everything that is missing. Otherwise a new
        /// session began; a [`Gap`] reports the upcalls in between if the log is still the same.
        resumed: bool,
        /// Whether the daemon has a new log, as after a restart. Sequences then start again, and it is unknown which
        /// upcalls were sent in between.
        new_log: bool,
        /// The first sequence that may be due to the client.
        start: u64,
    },
    /// The result of an input that [`Client::submit`](crate::Client::submit) or [`Client::queue`](crate::Client::queue)
    /// sent.
    SendResult {
        /// What that call returned.
        input: InputId,
        /// The receipt; [`Error::Refused`] if the daemon did not accept the input; [`Error::Unknown`] if there is no
        /// way left to find out.
        result: Result<Receipt, Error>,
    },
    /// Over a Unix socket, datagrams of another user were dropped: a process that is not the daemon sends to this
    /// client. Reported once per connection.
    ForeignSender(ForeignSender),
    /// The daemon sent an error that belongs to no call of this client. Always [`Error::Refused`].
    DaemonError(Error),
}

/// A range of sequences that a client does not receive. Some of them may not have been due to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first sequence.
    pub first: u64,
    /// The last sequence.
    pub last: u64,
    /// The reason.
    pub loss: Loss,
}

/// The daemon's confirmation of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The input's position in the log.
    pub sequence: u64,
    /// How many endpoints the input was due to, not counting the sender.
    pub receivers: u32,
    /// Whether the daemon had already accepted the input when it was sent earlier, and that receipt was lost.
    pub repeat: bool,
}

/// The filters in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The first sequence that the filters apply to.
    pub from: u64,
    /// Whether the endpoint never had a filter, so that everything is due to it.
    pub everything: bool,
    /// All filters in force.
    pub filters: Vec<String>,
}

impl Item {
    /// The item for an event of the machine; `None` for an event that only matters to the call that waits for it.
    pub(super) fn from_event(event: Event) -> Option<Item> {
        Some(match event {
            Event::Welcomed { resumed, new_log, start, .. } => Item::Reconnected { resumed, new_log, start },
            Event::Upcall(upcall) => Item::Upcall(upcall),
            Event::Gap { first, last, loss } => Item::Gap(Gap { first, last, loss }),
            Event::Receipt { input, sequence, due, repeat } => {
                Item::SendResult { input, result: Ok(Receipt { sequence, receivers: due, repeat }) }
            }
            Event::Unknown { input } => Item::SendResult { input, result: Err(Error::Unknown) },
            Event::Rejected { input, code, text } => {
                Item::SendResult { input, result: Err(Error::refused(code, &text)) }
            }
            Event::DaemonError { code, text } => Item::DaemonError(Error::refused(code, &text)),
            // The call has taken its answer, or has given up. The driver handles a lost connection.
            Event::Subscribed { .. } | Event::NotSubscribed { .. } | Event::Pong { .. } | Event::Disconnected(_) => {
                return None;
            }
        })
    }

    /// The bytes of topic and payload, which count against the limit of buffered items.
    pub(super) fn size(&self) -> usize {
        match self {
            Item::Upcall(Upcall { topic, payload, .. }) => topic.len() + payload.len(),
            _ => 0,
        }
    }
}
