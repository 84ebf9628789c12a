//! The limit of open files: an endpoint costs one.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that are not endpoints: standard streams, epoll, signals, listeners, refusals under way.
pub(super) const RESERVED: u64 = 64;

/// Raises the soft limit to the hard one, and returns it. No child is started that could mind, and nobody uses select(2).
pub(super) fn raise_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
