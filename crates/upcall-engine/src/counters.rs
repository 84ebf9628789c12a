//! Counts of what has happened since the start.

use upcall_wire::reason::{Reason, Refusal};

use crate::gate::Dropped;

/// What has happened since the start.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Inputs accepted.
    pub inputs: u64,
    /// Upcalls written, each to one endpoint.
    pub upcalls: u64,
    /// Endpoints registered.
    pub registered: u64,
    /// How many times a hold of inputs began.
    pub waits: u64,
    /// Upcalls that text datagram endpoints did not receive, because their sockets were full for too long or could not
    /// be reached.
    pub skipped: u64,
    /// Gaps announced to native endpoints.
    pub gaps: u64,
    /// Frames that were answered with an ERROR.
    pub violations: u64,
    pub(crate) left: [u64; Reason::ALL.len()],
    refused: [u64; Refusal::ALL.len()],
    dropped: [u64; Dropped::ALL.len()],
}

impl Counters {
    /// How many endpoints have left for this reason.
    pub fn left(&self, reason: Reason) -> u64 {
        self.left[reason as usize]
    }

    /// How many clients were refused for this reason.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize]
    }

    /// How many datagrams were dropped for this reason.
    pub fn dropped(&self, dropped: Dropped) -> u64 {
        self.dropped[dropped as usize]
    }

    /// Counts a datagram that the driver dropped.
    pub fn count_dropped(&mut self, dropped: Dropped) {
        self.dropped[dropped as usize] += 1;
    }

    /// Counts a client that was refused.
    pub fn count_refused(&mut self, refusal: Refusal) {
        self.refused[refusal as usize] += 1;
    }
}
