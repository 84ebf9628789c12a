//! The commands of `upcall-client` that speak native: each is a loop around the client library, and nothing else.

pub(super) mod exec;
mod inputs;
mod job;
pub(super) mod listen;
pub(super) mod ping;
mod render;
pub(super) mod send;
mod subscriber;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::failure::Failure;
use crate::cli::Credentials;
use upcall_client::{Builder, read_token};
use upcall_wire::address::Address;

/// How long a goodbye may take.
const PARTING: Duration = Duration::from_millis(500);

/// A client of the daemon there, with the token that the options or the environment name.
pub(super) fn builder(address: &Address, credentials: &Credentials) -> Builder {
    let builder = Builder::to(address).name("upcall-client");
    match token_file(credentials) {
        Some(file) => builder.token_file(&file),
        None => builder,
    }
}

fn token_file(credentials: &Credentials) -> Option<PathBuf> {
    let environment = std::env::var_os("UPCALL_TOKEN_FILE").filter(|file| !file.is_empty()).map(PathBuf::from);
    credentials.token_file.clone().or(environment)
}

/// The token itself.
pub(super) fn token(credentials: &Credentials) -> Result<Option<Vec<u8>>, Failure> {
    Ok(token_file(credentials).map(|file| read_token(&file)).transpose()?)
}

/// Waits for some descriptors, of which some may be none; says which are ready.
fn wait<const N: usize>(waits: [Option<(BorrowedFd<'_>, PollFlags)>; N], until: Option<Instant>) -> [bool; N] {
    let mut fds: Vec<PollFd<'_>> = waits.iter().flatten().map(|(fd, events)| PollFd::new(*fd, *events)).collect();
    let timeout = until.map_or(PollTimeout::NONE, |until| {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up: what is due then is due.
        let left = if left.is_zero() { left } else { left + Duration::from_millis(1) };
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    });
    // An interrupted wait has found nothing, and is repeated by whoever waits.
    let count = poll(&mut fds, timeout).unwrap_or(0);
    let mut polled = fds.iter();
    waits.map(|wait| {
        let ready = wait.is_some() && polled.next().is_some_and(|fd| fd.any().unwrap_or(true));
        ready && count > 0
    })
}

/// Waits for something to read, or for the time.
pub(super) fn wait_readable(fd: BorrowedFd<'_>, time: Duration) {
    let [_] = wait([Some((fd, PollFlags::POLLIN))], Instant::now().checked_add(time));
}
