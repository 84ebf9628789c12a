//! Stream connections.

pub(in crate::daemon) mod accept;
pub(in crate::daemon) mod connection;
pub(in crate::daemon) mod liveness;
pub(in crate::daemon) mod native;
pub(in crate::daemon) mod read;
pub(in crate::daemon) mod waiting_room;
pub(in crate::daemon) mod write;
