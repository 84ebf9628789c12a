//! Options that several commands of `upcall-client` have, and the parsers of their values.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

/// The protocol that a command speaks with the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClientProtocol {
    /// Frames: registered, with receipts, resumed after a lost connection
    Native,
    /// Lines, as nc would
    Text,
}

/// How the client identifies itself.
#[derive(Debug, Clone, Default, Args)]
pub struct CredentialOptions {
    /// The file with the listener's token, unreadable to other users [else $UPCALL_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// What happens when the connection is lost, or cannot be established.
#[derive(Debug, Clone, Copy, Args)]
pub struct ReconnectOptions {
    /// Keep trying if the daemon cannot be reached, or refuses the client, at the start too
    #[arg(long, conflicts_with = "no_reconnect")]
    pub retry: bool,

    /// Exit when the connection is lost [default: reconnect, waiting longer each time, up to 30s]
    #[arg(long, action = ArgAction::SetTrue)]
    pub no_reconnect: bool,
}

/// Reports the first given option that the text protocol would silently ignore.
pub(super) fn check_protocol(protocol: ClientProtocol, native_only: &[(&str, bool)]) -> Result<(), String> {
    match native_only.iter().find(|(_, given)| *given && protocol == ClientProtocol::Text) {
        Some((option, _)) => Err(format!("{option} means nothing with --protocol text")),
        None => Ok(()),
    }
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write for example 5s, 500ms or 2min"))
}

pub(super) fn parse_since(text: &str) -> Result<u64, String> {
    match text {
        "start" => Ok(0),
        _ => text.parse().ok().filter(|sequence| *sequence > 0).ok_or_else(|| "it is a sequence, or start".into()),
    }
}
