//! The options of `upcall-client send` and `listen`, which speak either protocol.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::native::{Again, Credentials, Protocol, parse_since};
use super::parse_duration;

/// `upcall-client send`
#[derive(Debug, Clone, Args)]
pub struct Send {
    /// Messages, one input each, of any bytes (text: but a newline); - sends the lines of stdin as they come
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

    /// How long to wait for the daemon to take everything, once everything is sent; status 75 when that is over
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub linger: Duration,

    /// What to speak: receipts, topics and tokens need native
    #[arg(long, value_enum, value_name = "P", default_value_t = Protocol::Native)]
    pub protocol: Protocol,

    /// How to be let in
    #[command(flatten)]
    pub credentials: Credentials,
}

/// `upcall-client listen`
#[derive(Debug, Clone, Args)]
pub struct Listen {
    /// Exit after this many upcalls
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Exit after this time: with status 75 if fewer than COUNT upcalls came, with 0 if no COUNT was asked for
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,

    /// Only upcalls with this topic, or whose topics begin with what is before an asterisk (repeatable)
    #[arg(long = "topic", value_name = "FILTER")]
    pub topics: Vec<String>,

    /// Also what was said before, from this sequence on, or all that the daemon still has; the listener has to allow it
    #[arg(long, value_name = "SEQ|start", value_parser = parse_since)]
    pub since: Option<u64>,

    /// Print each upcall as a JSON object on a line of its own: sequence, topic, from, time, and data, or data_base64 if it
    /// is not UTF-8
    #[arg(long)]
    pub json: bool,

    /// Print each upcall like this, and a newline: {data} {seq} {topic} {from} {time} [default: {data}]
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    pub format: Option<String>,

    /// End each upcall with NUL instead of a newline, and print it byte for byte
    #[arg(short = '0', long, conflicts_with = "json")]
    pub null: bool,

    /// What happens when the connection is lost
    #[command(flatten)]
    pub again: Again,

    /// What to speak; with text, upcalls are printed as the daemon renders them
    #[arg(long, value_enum, value_name = "P", default_value_t = Protocol::Native)]
    pub protocol: Protocol,

    /// How to be let in
    #[command(flatten)]
    pub credentials: Credentials,
}

impl Send {
    /// Finds options that the protocol would silently ignore.
    pub fn check(&self) -> Result<(), String> {
        stray(
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

impl Listen {
    /// Finds options that the protocol would silently ignore.
    pub fn check(&self) -> Result<(), String> {
        stray(
            self.protocol,
            &[
                ("--topic", !self.topics.is_empty()),
                ("--since", self.since.is_some()),
                ("--format", self.format.is_some()),
                ("--null", self.null),
                ("--token-file", self.credentials.token_file.is_some()),
            ],
        )
    }
}

fn stray(protocol: Protocol, options: &[(&str, bool)]) -> Result<(), String> {
    match options.iter().find(|(_, given)| *given && protocol == Protocol::Text) {
        Some((option, _)) => Err(format!("{option} means nothing with --protocol text")),
        None => Ok(()),
    }
}
