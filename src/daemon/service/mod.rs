//! What the daemon does besides serving clients.

pub(in crate::daemon) mod drain;
pub(in crate::daemon) mod files;
pub(in crate::daemon) mod notify;
pub(in crate::daemon) mod reload;
pub(in crate::daemon) mod summary;
