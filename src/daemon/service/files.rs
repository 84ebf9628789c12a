//! The limit of open files: an endpoint costs one.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;
use crate::daemon::log::{Log, warning};

/// Files that are not endpoints: standard streams, epoll, signals, listeners, refusals under way.
const RESERVED: u64 = 64;

/// Raises the limit, and says if it is too low for the endpoints that are allowed.
pub(in crate::daemon) fn warn_of_limit(log: &mut Log, config: &Config) {
    match raise_limit() {
        Ok(limit) if limit < config.registry.max_endpoints as u64 + RESERVED => {
            let room = limit.saturating_sub(RESERVED);
            warning!(
                log,
                "{limit} files may be open at once: room for about {room} endpoints, not for the {} of \
                registry.max_endpoints; raise the hard limit (LimitNOFILE=, ulimit -Hn)",
                config.registry.max_endpoints
            );
        }
        Ok(_) => {}
        Err(error) => warning!(log, "cannot raise the limit of open files: {error}"),
    }
}

/// Raises the soft limit to the hard one, and returns it. No child is started that could mind, and nobody uses select(2).
fn raise_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
