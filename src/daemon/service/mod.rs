//! Requests of the operator and the service manager: drain, reload, summary, notifications.

pub(super) mod drain;
pub(super) mod files;
pub(super) mod notify;
pub(super) mod reload;
mod reload_listeners;
pub(super) mod summary;
