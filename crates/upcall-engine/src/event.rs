//! What the engine reports to its driver.

use upcall_wire::reason::Reason;

use crate::registry::endpoint::Endpoint;

/// What the driver must know or do.
#[derive(Debug)]
pub enum Event {
    /// An endpoint has left the registry. The driver ends its connection.
    Left {
        /// The endpoint as it was.
        endpoint: Box<Endpoint>,
        /// Why it left.
        reason: Reason,
        /// Whether everything that was due to it was written, its farewell included.
        complete: bool,
    },
    /// Inputs are held for an endpoint: its number.
    InputsHeld(u64),
    /// Inputs are no longer held for any endpoint.
    InputsReleased,
    /// The inputs of a stream that were [parked](crate::InputTurn::Parked) may be handled again: its tag.
    Unparked(u64),
    /// The patience of an endpoint is used up, and inputs go on without it: its number.
    PatienceExhausted(u64),
}
