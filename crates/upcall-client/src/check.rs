//! Checks of arguments that several calls share.

use upcall_wire::escape::Escaped;
use upcall_wire::topic::is_filter;

use super::Error;

/// Checks that these are filters, at least one.
pub(super) fn check_filters(filters: &[&str]) -> Result<(), Error> {
    if filters.is_empty() {
        return Err(Error::Invalid("no filter is given".into()));
    }
    match filters.iter().find(|filter| !is_filter(filter)) {
        Some(wrong) => Err(Error::Invalid(format!(
            "\"{}\" is not a filter: 1 to 128 bytes without control characters, then an asterisk if it is a prefix",
            Escaped(wrong.as_bytes())
        ))),
        None => Ok(()),
    }
}
