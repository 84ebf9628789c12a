//! The options of `upcall-client send`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::shared::{ClientProtocol, CredentialOptions, check_protocol, parse_duration};

/// `upcall-client send`
#[derive(Debug, Clone, Args)]
pub struct SendOptions {
    /// Messages, one input each, of any bytes (with text: except newlines); - sends the lines of stdin as they come
    #[arg(value_name = "MESSAGE", required_unless_present = "file")]
    pub messages: Vec<OsString>,

    /// Send the lines of this file (after the messages)
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// The topic of the inputs
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,

    /// Exit with status 69 if any input went to fewer endpoints than this
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub require_receivers: Option<u32>,

    /// Print a line for each input: its sequence, and how many endpoints it went to
    #[arg(short, long)]
    pub verbose: bool,

    /// Print a JSON object for each input instead
    #[arg(long)]
    pub json: bool,

    /// How long to wait, once everything is sent, until the daemon has accepted it; exit with status 75 after that
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub linger: Duration,

    /// Protocol: receipts, topics and tokens need native
    #[arg(long, value_enum, value_name = "P", default_value_t = ClientProtocol::Native)]
    pub protocol: ClientProtocol,

    /// How the client identifies itself
    #[command(flatten)]
    pub credentials: CredentialOptions,
}

impl SendOptions {
    /// Reports an option that the protocol would silently ignore.
    pub fn check(&self) -> Result<(), String> {
        check_protocol(
            self.protocol,
            &[
                ("--topic", self.topic.is_some()),
                ("--require-receivers", self.require_receivers.is_some()),
                ("--verbose", self.verbose),
                ("--json", self.json),
                ("--token-file", self.credentials.token_file.is_some()),
            ],
        )
    }
}
