//! The options of `upcall-client listen`.

use std::time::Duration;

use clap::Args;

use super::shared::{ClientProtocol, CredentialOptions, ReconnectOptions, check_protocol, parse_duration, parse_since};

/// `upcall-client listen`
#[derive(Debug, Clone, Args)]
pub struct ListenOptions {
    /// Exit after this many upcalls
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Exit after this time: with status 75 if fewer than COUNT upcalls came, with 0 without a COUNT
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,

    /// Only upcalls with this topic, or whose topics begin with the text before an asterisk (repeatable)
    #[arg(long = "topic", value_name = "FILTER")]
    pub topics: Vec<String>,

    /// Also earlier inputs, from this sequence on, or all that the daemon still has; the listener has to allow it
    #[arg(long, value_name = "SEQ|start", value_parser = parse_since)]
    pub since: Option<u64>,

    /// Print each upcall as a JSON object on a line of its own: sequence, topic, from, time, and data, or data_base64
    /// if it is not UTF-8
    #[arg(long)]
    pub json: bool,

    /// Print each upcall in this form, and a newline: {data} {seq} {topic} {from} {time} [default: {data}]
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    pub format: Option<String>,

    /// End each upcall with NUL instead of a newline, and print it byte for byte
    #[arg(short = '0', long, conflicts_with = "json")]
    pub null: bool,

    /// What happens when the connection is lost
    #[command(flatten)]
    pub again: ReconnectOptions,

    /// Protocol; with text, upcalls are printed as the daemon renders them
    #[arg(long, value_enum, value_name = "P", default_value_t = ClientProtocol::Native)]
    pub protocol: ClientProtocol,

    /// How the client identifies itself
    #[command(flatten)]
    pub credentials: CredentialOptions,
}

impl ListenOptions {
    /// Reports an option that the protocol would silently ignore.
    pub fn check(&self) -> Result<(), String> {
        check_protocol(
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
