//! Clocks and deadlines.

pub(in crate::daemon) mod clock;
pub(in crate::daemon) mod deadlines;
