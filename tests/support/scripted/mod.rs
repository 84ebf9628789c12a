//! Daemons that a test plays itself.

pub(crate) mod datagram;
