//! The options of `upcall-client exec`.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::shared::{CredentialOptions, ReconnectOptions, parse_duration, parse_since};

/// `upcall-client exec`
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ExecOptions {
    /// Only upcalls with this topic, or whose topics begin with the text before an asterisk (repeatable)
    #[arg(long = "topic", value_name = "FILTER")]
    pub topics: Vec<String>,

    /// Kill the command when it takes longer than this, and count it as failed
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub job_timeout: Option<Duration>,

    /// Also earlier inputs, from this sequence on, or all that the daemon still has; the listener has to allow it
    #[arg(long, value_name = "SEQ|start", value_parser = parse_since)]
    pub since: Option<u64>,

    /// Exit after this many upcalls
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// What happens when the connection is lost
    #[command(flatten)]
    pub again: ReconnectOptions,

    /// How the client identifies itself
    #[command(flatten)]
    pub credentials: CredentialOptions,

    /// The command and its arguments, run as they are, without a shell
    #[arg(value_name = "CMD", required = true, last = true)]
    pub command: Vec<OsString>,
}

const AFTER_HELP: &str = "\
Commands run one after the other, each in its own process group, which is killed when its time is over, when the \
command has exited, and when this program is terminated. Exit status: 70 if any command failed.";
