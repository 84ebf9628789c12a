//! The options of `upcall-client` that belong to the native protocol.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use super::parse_duration;

/// What to speak with the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Frames: registered, with receipts, resumed after a lost connection
    Native,
    /// Lines, as nc would
    Text,
}

/// How to be let in.
#[derive(Debug, Clone, Default, Args)]
pub struct Credentials {
    /// The file with the listener's token, that others may not read [else $UPCALL_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// What happens when the connection is lost, or cannot be made.
#[derive(Debug, Clone, Copy, Args)]
pub struct Again {
    /// Keep trying when the daemon cannot be reached or does not let us in at the start, too
    #[arg(long, conflicts_with = "no_reconnect")]
    pub retry: bool,

    /// Exit when the connection is lost [default: make it again, waiting longer each time, up to 30s]
    #[arg(long, action = ArgAction::SetTrue)]
    pub no_reconnect: bool,
}

/// `upcall-client exec`
#[derive(Debug, Clone, Args)]
#[command(after_help = EXEC_AFTER_HELP)]
pub struct Exec {
    /// Only upcalls with this topic, or whose topics begin with what is before an asterisk (repeatable)
    #[arg(long = "topic", value_name = "FILTER")]
    pub topics: Vec<String>,

    /// Kill the command when it takes longer than this, and count it as failed
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub job_timeout: Option<Duration>,

    /// Also what was said before, from this sequence on, or all that the daemon still has; the listener has to allow it
    #[arg(long, value_name = "SEQ|start", value_parser = parse_since)]
    pub since: Option<u64>,

    /// Exit after this many upcalls
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// What happens when the connection is lost
    #[command(flatten)]
    pub again: Again,

    /// How to be let in
    #[command(flatten)]
    pub credentials: Credentials,

    /// The command and its arguments, as they are: no shell looks at them
    #[arg(value_name = "CMD", required = true, last = true)]
    pub command: Vec<OsString>,
}

const EXEC_AFTER_HELP: &str = "\
Commands run one after the other, in a process group of their own that is killed when its time is over, when the command \
has ended, and when this program is told to end. Exit status: 70 if any command failed.";

/// `upcall-client ping`
#[derive(Debug, Clone, Args)]
pub struct Ping {
    /// How often to ask, once a second
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,

    /// How long to wait for the connection, and for each answer; status 75 when that is over
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub timeout: Duration,

    /// How to be let in
    #[command(flatten)]
    pub credentials: Credentials,
}

pub(super) fn parse_since(text: &str) -> Result<u64, String> {
    match text {
        "start" => Ok(0),
        _ => text.parse().ok().filter(|sequence| *sequence > 0).ok_or_else(|| "it is a sequence, or start".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Client, Command};
    use clap::Parser;

    fn parse(arguments: &[&str]) -> Result<Command, String> {
        let arguments = std::iter::once("upcall-client").chain(arguments.iter().copied());
        let client = Client::try_parse_from(arguments).map_err(|error| error.to_string())?;
        let command = client.command.ok_or("no command")?;
        match &command {
            Command::Send(send) => send.check()?,
            Command::Listen(listen) => listen.check()?,
            _ => {}
        }
        Ok(command)
    }

    #[test]
    fn text_has_no_topics() {
        assert!(parse(&["send", "--topic", "t", "x"]).is_ok());
        for arguments in [
            &["send", "--protocol", "text", "--topic", "t", "x"][..],
            &["send", "--protocol", "text", "--require-receivers", "1", "x"],
            &["listen", "--protocol", "text", "--since", "start"],
            &["listen", "--protocol", "text", "-0"],
        ] {
            assert!(parse(arguments).unwrap_err().contains("means nothing with --protocol text"), "{arguments:?}");
        }
    }

    #[test]
    fn since_is_a_sequence_or_the_start() {
        assert_eq!(parse_since("start"), Ok(0));
        assert_eq!(parse_since("7"), Ok(7));
        assert!(parse_since("0").is_err() && parse_since("-1").is_err() && parse_since("now").is_err());
    }

    #[test]
    fn the_command_is_behind_two_dashes() {
        let Ok(Command::Exec(exec)) = parse(&["exec", "--topic", "t", "--", "cat", "-n"]) else { panic!("it is exec") };
        assert_eq!(exec.command, ["cat", "-n"]);
        assert!(parse(&["exec"]).is_err() && parse(&["exec", "cat"]).is_err());
    }
}
