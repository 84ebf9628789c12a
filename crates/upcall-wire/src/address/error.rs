//! The error of parsing an address.

use std::fmt;

/// Describes what is wrong with an address, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError(pub(super) String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}
