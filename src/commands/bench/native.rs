//! Links of the bench that speak native.

mod datagrams;
mod stream;

pub(super) use datagrams::Datagrams;
pub(super) use stream::Stream;
