//! What the operator and the service manager ask for: to end, to reload, to report how it goes.

pub(super) mod drain;
pub(super) mod files;
pub(super) mod notify;
pub(super) mod reload;
mod reload_listeners;
pub(super) mod summary;
