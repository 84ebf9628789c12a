//! The command line of `upcall-client`: where the daemon is, and the commands.

use clap::{Args, CommandFactory, Parser, Subcommand};
use upcall_wire::address::{Address, AddressError, DEFAULT_PORT, DEFAULT_SOCKET, DEFAULT_URL, Transport};

use super::bench::BenchOptions;
use super::completions::CompletionsOptions;
use super::exec::ExecOptions;
use super::listen::ListenOptions;
use super::ping::PingOptions;
use super::send::SendOptions;

/// `upcall-client`: a client of upcalld. Without a command it is interactive: type a message, see the upcalls; `bye`
/// ends.
#[derive(Debug, Clone, Parser)]
#[command(name = "upcall-client", version, about = ABOUT, max_term_width = 100, after_help = AFTER_HELP)]
pub struct ClientOptions {
    /// Where to connect
    #[command(flatten)]
    pub target: TargetOptions,

    /// What to do; interactive without one
    #[command(subcommand)]
    pub command: Option<Command>,
}

const ABOUT: &str = "\
Client of upcalld. Without a command it is interactive: type a message, see the upcalls; bye or Ctrl-D ends.";

const AFTER_HELP: &str = "\
send, listen, exec and ping speak the native protocol: inputs are confirmed, upcalls are in order, and gaps are \
reported. With --protocol text, delivery over udp and unix-datagram is best effort: status 0 of send means that \
everything was sent, not that it arrived; and a message that reads join, join ..., bye, or beyond this machine \
bye ..., is a command there and cannot be sent.
Exit status: 0 ok, 64 usage, 65 bad data, 68 unknown host, 69 refused or too few receivers, \
70 a command of exec failed, 74 I/O error, 75 timed out, 76 protocol, 77 denied.";

/// Where the daemon is.
#[derive(Debug, Clone, Args)]
pub struct TargetOptions {
    /// The daemon's URL: tcp:// or udp://host:port, unix:// or unix-datagram:// and /path or @name [else $UPCALL_URL,
    /// or tcp://127.0.0.1:4141]
    #[arg(value_name = "URL", conflicts_with_all = ["transport", "address"], value_parser = url_or_hint)]
    pub(super) url: Option<String>,

    /// Transport: tcp, udp, unix or unix-datagram [default: tcp, or unix for a socket's name]
    #[arg(long, value_name = "T")]
    pub(super) transport: Option<String>,

    /// Address on that transport: host[:port], a socket's path, or @name [default: that of $UPCALL_URL if it is of the
    /// same kind, or 127.0.0.1:4141, /run/upcalld/upcalld.sock]
    #[arg(long, value_name = "A")]
    pub(super) address: Option<String>,
}

/// The commands of `upcall-client`.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Send one or more inputs, wait until the daemon has accepted them, and exit
    Send(SendOptions),
    /// Print upcalls as they arrive
    Listen(ListenOptions),
    /// Run a command for every upcall: its payload on stdin, the rest in UPCALL_SEQUENCE, _TOPIC, _FROM and _TIME
    Exec(ExecOptions),
    /// Check that the daemon answers: a health check
    Ping(PingOptions),
    /// Measure how fast the daemon is, and check what it delivers
    Bench(BenchOptions),
    /// Print what a shell needs to complete the command lines of both programs
    Completions(CompletionsOptions),
}

impl TargetOptions {
    /// The address that the options name, or that of `environment`, the value of `$UPCALL_URL`. A transport without an
    /// address replaces only the transport of `$UPCALL_URL`, if its address is possible on both.
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
                // No host name begins with one of these.
                .unwrap_or(if place.starts_with(['@', '/']) { "unix" } else { "tcp" })
                .parse()
                .map_err(|error: AddressError| error.to_string())
                .and_then(|transport| parse_place(transport, Some(place))),
        }
    }
}

/// An address on a transport; without a place, the default one.
fn parse_place(transport: Transport, place: Option<&str>) -> Result<Address, String> {
    let default = match transport {
        Transport::Tcp | Transport::Udp => "127.0.0.1",
        Transport::Unix => DEFAULT_SOCKET,
        // The default socket is a stream socket, so there is no default: an empty place gives "is missing".
        Transport::UnixDatagram => "",
    };
    Address::parse(transport, place.unwrap_or(default), Some(DEFAULT_PORT)).map_err(|error| error.to_string())
}

/// Accepts a text that has the form of a URL. For any other text, which may be a mistyped command, the error suggests
/// what to write instead.
pub(super) fn url_or_hint(text: &str) -> Result<String, String> {
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    let client = ClientOptions::command();
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
