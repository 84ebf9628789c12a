//! The options of `upcalld`.

use std::path::PathBuf;

use clap::Parser;
use upcall_wire::address::Address;

/// `upcalld`: calls every registered client back whenever input arrives.
#[derive(Debug, Clone, Parser)]
#[command(name = "upcalld", version, about, max_term_width = 100, after_help = AFTER_HELP)]
pub struct DaemonOptions {
    /// Read this configuration file [else $UPCALLD_CONFIG, /etc/upcalld/upcalld.toml, or the built-in default]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the configuration, print every mistake as file:line:column, and exit; binds and writes nothing
    #[arg(short = 't', long)]
    pub check: bool,

    /// Listen here instead of on the configured listeners: tcp:// or udp://host:port, unix:// or unix-datagram:// and
    /// /path or @name (repeatable)
    #[arg(short, long, value_name = "URL", value_parser = parse_listen)]
    pub listen: Vec<Address>,

    /// Let --listen admit clients of other machines
    #[arg(long, requires = "listen")]
    pub open: bool,

    /// Print the configuration in force as TOML, and exit
    #[arg(long, conflicts_with = "check")]
    pub print_config: bool,

    /// How log lines are written: auto (to the journal if stderr leads there, else text), text, json [default: as
    /// configured]
    #[arg(long, value_name = "FORMAT", value_parser = ["auto", "text", "json"])]
    pub log_format: Option<String>,

    /// Log the inputs themselves: auto (when stderr is a terminal), always, never [default: as configured]
    #[arg(long, value_name = "WHEN", value_parser = ["auto", "always", "never"])]
    pub log_inputs: Option<String>,

    /// Log more: debug messages too
    #[arg(short, long)]
    pub verbose: bool,

    /// Log less: warnings and errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
}

const AFTER_HELP: &str = "\
Signals: TERM and INT drain and exit (a second one exits at once), HUP reloads the configuration, USR1 logs a summary.
systemd: reports READY, STATUS and WATCHDOG; takes sockets whose FileDescriptorName= is the name of a listener.
Exit status: 0 ok, 64 usage, 73 cannot listen, 74 I/O error, 78 wrong configuration.";

fn parse_listen(url: &str) -> Result<Address, String> {
    Address::parse_url(url, None).map_err(|error| error.to_string())
}
