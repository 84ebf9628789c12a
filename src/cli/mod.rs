//! The command lines of both programs: one definition for parser, `--help`, documents and tests.

mod bench;
mod completions;
mod native;
mod talk;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::exit::Status;
use upcall_wire::address::{Address, AddressError, DEFAULT_PORT, DEFAULT_SOCKET, DEFAULT_URL, Transport};

pub use bench::{Bench, MAX_MESSAGES, MIN_SIZE, Mode};
pub use completions::{Completions, Program};
pub use native::{Again, Credentials, Exec, Ping, Protocol};
pub use talk::{Listen, Send};

/// `upcalld`: calls every registered client back whenever input arrives.
#[derive(Debug, Clone, Parser)]
#[command(name = "upcalld", version, about, max_term_width = 100, after_help = DAEMON_AFTER_HELP)]
pub struct Daemon {
    /// Read this configuration file [else $UPCALLD_CONFIG, /etc/upcalld/upcalld.toml, or the built-in default]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the configuration, print every mistake as file:line:column, and exit; binds and writes nothing
    #[arg(short = 't', long)]
    pub check: bool,

    /// Listen here instead of on the configured listeners: tcp:// or udp://host:port, unix:// or unix-datagram:// and /path or
    /// @name (repeatable)
    #[arg(short, long, value_name = "URL", value_parser = parse_listen)]
    pub listen: Vec<Address>,

    /// Let --listen admit strangers beyond this machine
    #[arg(long, requires = "listen")]
    pub open: bool,

    /// Print the configuration in force as TOML, and exit
    #[arg(long, conflicts_with = "check")]
    pub print_config: bool,

    /// How log lines are written: auto (to the journal if stderr leads there, else text), text, json [default: as configured]
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

const DAEMON_AFTER_HELP: &str = "\
Signals: TERM and INT drain and end (a second one ends at once), HUP reads the configuration again, USR1 logs a summary.
systemd: tells it READY, STATUS and WATCHDOG; takes sockets whose FileDescriptorName= is the name of a listener.
Exit status: 0 ok, 64 usage, 73 cannot listen, 74 I/O error, 78 wrong configuration.";

/// `upcall-client`: talks to upcalld. Without a command it is interactive: type a message, see the upcalls; `bye` ends.
#[derive(Debug, Clone, Parser)]
#[command(name = "upcall-client", version, about = CLIENT_ABOUT, max_term_width = 100, after_help = CLIENT_AFTER_HELP)]
pub struct Client {
    /// Where to connect
    #[command(flatten)]
    pub target: Target,

    /// What to do; interactive without one
    #[command(subcommand)]
    pub command: Option<Command>,
}

const CLIENT_ABOUT: &str = "\
Talks to upcalld. Without a command it is interactive: type a message, see the upcalls; bye or Ctrl-D ends.";

const CLIENT_AFTER_HELP: &str = "\
send, listen, exec and ping speak the native protocol: inputs are confirmed, upcalls are in order, and what is missing is named. \
With --protocol text, delivery over udp and unix-datagram is best effort: status 0 of send means that everything was sent, not \
that it arrived; and what reads join, join ..., bye, or beyond this machine bye ..., is a command there and cannot be sent.
Exit status: 0 ok, 64 usage, 65 bad data, 68 unknown host, 69 refused or too few receivers, 70 a command of exec failed, \
74 I/O error, 75 timed out, 76 protocol, 77 denied.";

/// Where the daemon is.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// The daemon's URL: tcp:// or udp://host:port, unix:// or unix-datagram:// and /path or @name [else $UPCALL_URL, or
    /// tcp://127.0.0.1:4141]
    #[arg(value_name = "URL", conflicts_with_all = ["transport", "address"], value_parser = url_or_hint)]
    url: Option<String>,

    /// Transport: tcp, udp, unix or unix-datagram [default: tcp, or unix for a socket's name]
    #[arg(long, value_name = "T")]
    transport: Option<String>,

    /// Address on that transport: host[:port], a socket's path, or @name [default: that of $UPCALL_URL if it is of the same
    /// kind, or 127.0.0.1:4141, /run/upcalld/upcalld.sock]
    #[arg(long, value_name = "A")]
    address: Option<String>,
}

/// The commands of `upcall-client`.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Send one or more inputs, wait until the daemon has taken them, and exit
    Send(Send),
    /// Print upcalls as they come
    Listen(Listen),
    /// Run a command for every upcall: its payload on stdin, the rest in UPCALL_SEQUENCE, _TOPIC, _FROM and _TIME
    Exec(Exec),
    /// Ask the daemon for a sign of life: a health check
    Ping(Ping),
    /// Measure how fast the daemon is, and check what it delivers
    Bench(Bench),
    /// Print what a shell needs to complete the command lines of both programs
    Completions(Completions),
}

impl Target {
    /// The address that the options name, or else `environment`: the value of `$UPCALL_URL`. A transport alone changes only
    /// the transport of that, where the address makes sense on both.
    pub fn address(&self, environment: Option<&str>) -> Result<Address, String> {
        let inherited = || {
            environment
                .map(|url| Address::parse_url(url, Some(DEFAULT_PORT)).map_err(|error| format!("$UPCALL_URL: {error}")))
                .transpose()
        };
        match (self.url.as_deref(), self.transport.as_deref(), self.address.as_deref()) {
            (Some(url), _, _) => Address::parse_url(url, Some(DEFAULT_PORT)).map_err(|error| error.to_string()),
            (None, None, None) => match inherited()? {
                Some(address) => Ok(address),
                None => Address::parse_url(DEFAULT_URL, Some(DEFAULT_PORT)).map_err(|error| error.to_string()),
            },
            (None, Some(transport), None) => {
                let transport: Transport = transport.parse().map_err(|error: AddressError| error.to_string())?;
                match inherited()? {
                    Some(address) if address.transport() == transport => Ok(address),
                    Some(Address::Inet { host, port, .. }) if transport.is_inet() => {
                        Ok(Address::Inet { transport, host, port })
                    }
                    _ => parse_place(transport, None),
                }
            }
            (None, transport, Some(place)) => transport
                // No host's name begins like that.
                .unwrap_or(if place.starts_with(['@', '/']) { "unix" } else { "tcp" })
                .parse()
                .map_err(|error: AddressError| error.to_string())
                .and_then(|transport| parse_place(transport, Some(place))),
        }
    }
}

/// A place on a transport, or the usual one.
fn parse_place(transport: Transport, place: Option<&str>) -> Result<Address, String> {
    let default = match transport {
        Transport::Tcp | Transport::Udp => "127.0.0.1",
        Transport::Unix => DEFAULT_SOCKET,
        // That one is a stream socket. Nothing is missing more clearly than what is empty.
        Transport::UnixDatagram => "",
    };
    Address::parse(transport, place.unwrap_or(default), Some(DEFAULT_PORT)).map_err(|error| error.to_string())
}

/// Parses the program's arguments; prints help, version or the mistake and says how to exit where there is nothing to run.
pub fn parse<P: Parser>() -> Result<P, Status> {
    run_or_exit(P::try_parse())
}

/// The same for `upcall-client`, whose commands may be mistyped as well as its URL.
pub fn parse_client() -> Result<Client, Status> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    run_or_exit(read_client(&arguments))
}

fn read_client(arguments: &[OsString]) -> Result<Client, clap::Error> {
    Client::try_parse_from(arguments).map_err(|error| {
        // Where the first word was taken for a URL, what comes behind it is found wrong before the word itself.
        let first = arguments.get(1).and_then(|first| first.to_str()).filter(|first| !first.starts_with('-'));
        match (error.kind(), first.map(|first| (first, url_or_hint(first)))) {
            (ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand, Some((first, Err(hint)))) => {
                Client::command().error(ErrorKind::ValueValidation, format!("'{first}': {hint}"))
            }
            _ => error,
        }
    })
}

fn run_or_exit<P>(parsed: Result<P, clap::Error>) -> Result<P, Status> {
    parsed.map_err(|error| {
        // Nothing is left to do if the terminal is gone.
        let _ = error.print();
        if error.use_stderr() { Status::Usage } else { Status::Ok }
    })
}

/// Takes what has the form of a URL, and says what to write instead of anything else: it may be a mistyped command.
fn url_or_hint(text: &str) -> Result<String, String> {
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    let client = Client::command();
    let distance = |name: &str| strsim::osa_distance(&text.to_lowercase(), name);
    let near = client.get_subcommands().map(|command| command.get_name()).min_by_key(|name| distance(name));
    Err(match (text.as_bytes(), near.filter(|near| distance(near) <= 2)) {
        ([b'@' | b'/', ..], _) => format!("not a URL; write unix://{text} or unix-datagram://{text}"),
        (_, Some(near)) => format!("neither a URL nor a command; did you mean \"{near}\"?"),
        _ if text.contains(':') => format!("not a URL; write tcp://{text} or udp://{text}"),
        _ => {
            "neither a URL nor a command; write tcp://host:port, unix:///path or unix://@name, or see --help".to_owned()
        }
    })
}

fn parse_listen(url: &str) -> Result<Address, String> {
    Address::parse_url(url, None).map_err(|error| error.to_string())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write for example 5s, 500ms or 2min"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(arguments: &[&str]) -> Result<String, String> {
        let arguments: Vec<OsString> =
            std::iter::once("upcall-client").chain(arguments.iter().copied()).map(Into::into).collect();
        let client = read_client(&arguments).map_err(|error| error.to_string())?;
        client.target.address(None).map(|address| address.to_string())
    }

    #[test]
    fn the_definitions_are_consistent() {
        Daemon::command().debug_assert();
        Client::command().debug_assert();
    }

    #[test]
    fn the_environment_counts_where_nothing_is_said() {
        let nothing = Target { url: None, transport: None, address: None };
        assert_eq!(nothing.address(Some("tcp://lab")).unwrap().to_string(), "tcp://lab:4141");
        assert!(nothing.address(Some("lab")).unwrap_err().starts_with("$UPCALL_URL: "));
        let said = Target { transport: Some("unix".into()), ..nothing };
        assert_eq!(said.address(Some("tcp://lab")).unwrap().to_string(), "unix:///run/upcalld/upcalld.sock");
        assert_eq!(said.address(Some("unix://@lab")).unwrap().to_string(), "unix://@lab");
        let said = Target { transport: Some("udp".into()), ..said };
        assert_eq!(said.address(Some("tcp://lab:7")).unwrap().to_string(), "udp://lab:7");
        assert_eq!(said.address(Some("unix://@lab")).unwrap().to_string(), "udp://127.0.0.1:4141");
        assert!(said.address(Some("lab")).unwrap_err().starts_with("$UPCALL_URL: "));
        let said = Target { address: Some("there".into()), ..said };
        assert_eq!(said.address(Some("tcp://lab:7")).unwrap().to_string(), "udp://there:4141");
    }

    #[test]
    fn what_is_no_url_is_told_from_a_mistyped_command() {
        for (arguments, hint) in [
            (&["lisen"][..], "did you mean \"listen\"?"),
            (&["SEND", "hi"], "did you mean \"send\"?"),
            (&["snd", "hi"], "did you mean \"send\"?"),
            (&["@lab"], "write unix://@lab or unix-datagram://@lab"),
            (&["lab:7", "send", "hi"], "write tcp://lab:7 or udp://lab:7"),
            (&["something"], "neither a URL nor a command"),
        ] {
            let error = target(arguments).unwrap_err();
            assert!(error.contains(hint), "{arguments:?}: {error}");
        }
        assert_eq!(target(&["--address", "@lab"]).unwrap(), "unix://@lab");
        assert_eq!(target(&["--address", "/run/lab", "listen"]).unwrap(), "unix:///run/lab");
    }

    #[test]
    fn the_daemon_is_found_by_url_or_by_parts() {
        assert_eq!(target(&[]).unwrap(), "tcp://127.0.0.1:4141");
        assert_eq!(target(&["tcp://lab"]).unwrap(), "tcp://lab:4141");
        assert_eq!(target(&["tcp://lab:1", "send", "hi"]).unwrap(), "tcp://lab:1");
        assert_eq!(target(&["--transport", "tcp", "--address", "lab:7"]).unwrap(), "tcp://lab:7");
        assert_eq!(target(&["--address", "lab:7"]).unwrap(), "tcp://lab:7");
        assert_eq!(target(&["--transport", "unix"]).unwrap(), "unix:///run/upcalld/upcalld.sock");
        assert_eq!(target(&["--transport", "unix", "--address", "@lab", "listen"]).unwrap(), "unix://@lab");
        assert!(target(&["--transport", "tpc"]).unwrap_err().contains("unknown transport"));
        assert!(target(&["tcp://lab", "--transport", "unix"]).unwrap_err().contains("cannot be used with"));
        assert_eq!(target(&["--transport", "udp"]).unwrap(), "udp://127.0.0.1:4141");
        assert_eq!(target(&["udp://[::1]", "listen"]).unwrap(), "udp://[::1]:4141");
        assert_eq!(target(&["--transport", "unix-datagram", "--address", "/x"]).unwrap(), "unix-datagram:///x");
        assert!(target(&["--transport", "unix-datagram"]).unwrap_err().contains("is missing"));
    }
}
