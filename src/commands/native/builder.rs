//! How all native commands build their client: its name, and the token that the options or the environment name.

use std::path::PathBuf;
use std::time::Duration;

use upcall_client::{Builder, read_token};
use upcall_wire::address::Address;

use crate::cli::CredentialOptions;
use crate::commands::failure::Failure;

/// The time limit for leaving the daemon at the end of a command.
pub(super) const LEAVE_TIMEOUT: Duration = Duration::from_millis(500);

/// A client of the daemon at this address, with the token if there is one.
pub(in crate::commands) fn builder(address: &Address, credentials: &CredentialOptions) -> Builder {
    let builder = Builder::to(address).name("upcall-client");
    match token_file(credentials) {
        Some(file) => builder.token_file(&file),
        None => builder,
    }
}

/// The token itself, for callers that use no client.
pub(in crate::commands) fn token(credentials: &CredentialOptions) -> Result<Option<Vec<u8>>, Failure> {
    Ok(token_file(credentials).map(|file| read_token(&file)).transpose()?)
}

fn token_file(credentials: &CredentialOptions) -> Option<PathBuf> {
    let environment = std::env::var_os("UPCALL_TOKEN_FILE").filter(|file| !file.is_empty()).map(PathBuf::from);
    credentials.token_file.clone().or(environment)
}
