//! The limit of open files. Each endpoint over a stream needs one.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;
use crate::daemon::log::{Logger, warning};

/// Descriptors for other uses: standard streams, epoll, signals, listeners, connections that are being refused.
const RESERVED: u64 = 64;

/// Raises the limit, and warns if it is too low for the endpoints that the configuration allows.
pub(in crate::daemon) fn warn_of_limit(logger: &mut Logger, config: &Config) {
    match raise_limit() {
        Ok(limit) if limit < config.registry.max_endpoints as u64 + RESERVED => {
            let room = limit.saturating_sub(RESERVED);
            warning!(
                logger,
                "{limit} files may be open at once: room for about {room} endpoints, not for the {} of \
                registry.max_endpoints; raise the hard limit (LimitNOFILE=, ulimit -Hn)",
                config.registry.max_endpoints
            );
        }
        Ok(_) => {}
        Err(error) => warning!(logger, "cannot raise the limit of open files: {error}"),
    }
}

/// Raises the soft limit to the hard limit, and returns it. This is safe because no child process inherits the limit,
/// and select(2) is not used.
fn raise_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}
