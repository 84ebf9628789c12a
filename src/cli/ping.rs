//! The options of `upcall-client ping`.

use std::time::Duration;

use clap::Args;

use super::shared::{CredentialOptions, parse_duration};

/// `upcall-client ping`
#[derive(Debug, Clone, Args)]
pub struct PingOptions {
    /// Number of pings, one a second
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,

    /// How long to wait for the connection, and for each answer; exit with status 75 after that
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub timeout: Duration,

    /// How the client identifies itself
    #[command(flatten)]
    pub credentials: CredentialOptions,
}
