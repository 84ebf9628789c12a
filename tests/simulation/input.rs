//! Inputs as the log must contain them, and their text rendition.

use upcall_engine::Audience;

/// An input as it was appended.
pub(crate) struct LoggedInput {
    /// The number of the endpoint that sent it.
    pub(crate) source: u64,
    pub(crate) audience: Audience,
    pub(crate) topic: String,
    pub(crate) data: Vec<u8>,
    pub(crate) rendered: Vec<u8>,
}

impl LoggedInput {
    /// Whether its audience includes the endpoint with this number.
    pub(crate) fn is_for(&self, number: u64) -> bool {
        match self.audience {
            Audience::All => true,
            Audience::Others => self.source != number,
            Audience::Sender => self.source == number,
        }
    }
}

/// The upcall of an input as text endpoints receive it.
pub(crate) fn rendered(sequence: u64, data: &[u8]) -> Vec<u8> {
    [format!("<{sequence} ").as_bytes(), data, b">"].concat()
}
