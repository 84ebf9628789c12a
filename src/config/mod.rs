//! The configuration: TOML in, validated types out, and every mistake of a file in one run with its line and column.
//!
//! Owns the schema, its defaults, the rules between keys, and where the file is looked for. What it hands out has been
//! checked: the daemon needs no second look. Binds nothing, writes nothing, and knows neither sockets nor the daemon.

mod listener;
mod mistake;
mod parse;
mod print;
mod read;
mod search;
mod syntax;
mod token;
mod units;
mod validate;
mod values;
mod words;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;

use upcall_engine::{Audience, Patience, Policy};
use upcall_wire::address::{Address, DEFAULT_PORT, Host, Transport};
use upcall_wire::format::Format;
use upcall_wire::text::Framing;

pub use mistake::{Mistake, Mistakes, Place};
pub use parse::{SCHEMA, parse};
pub use search::{DEFAULT_PATH, Source, load, locate};
pub use token::Token;
pub use units::print_size;

/// The largest configuration file that is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// The most listeners that one daemon has.
pub const MAX_LISTENERS: usize = 1_000;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[[listener]]`: at least one.
    pub listeners: Vec<Listener>,
    /// `[upcall]`
    pub upcall: Upcall,
    /// `[registry]`
    pub registry: Registry,
    /// `[daemon]`
    pub daemon: Daemon,
    /// `[log]`
    pub log: Log,
    /// `[slow_consumer]`
    pub slow_consumer: SlowConsumer,
}

/// `[[listener]]`: where clients come in, which ones, and how they are understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// 1–64 characters of `A-Za-z0-9_.-`, unique among the listeners.
    pub name: String,
    /// Where it listens; an internet host is always an IP address.
    pub address: Address,
    /// How the clients' bytes are understood.
    pub protocol: Protocol,
    /// How text streams are cut into messages.
    pub framing: Framing,
    /// What its clients may do.
    pub role: Role,
    /// Strangers beyond this machine are welcome.
    pub open: bool,
    /// A newcomer may ask for what was said before it came.
    pub history: bool,
    /// `[::]` takes IPv4 clients too.
    pub dual_stack: bool,
    /// Networks whose addresses are admitted; empty admits all.
    pub allow: Vec<IpNet>,
    /// Networks whose addresses are refused, even if `allow` admits them.
    pub deny: Vec<IpNet>,
    /// The most endpoints on this listener; `None`: only the registry's cap counts.
    pub max_endpoints: Option<usize>,
    /// The most endpoints of one source; `None`: the daemon's rule for the transport.
    pub max_per_source: Option<usize>,
    /// File mode of a Unix socket.
    pub mode: u32,
    /// Group that the file of a Unix socket is given to, a gid; `None`: the daemon's own.
    pub group: Option<u32>,
    /// Uids that are admitted on a Unix socket; with `allow_groups` empty too, everybody is.
    pub allow_users: Vec<u32>,
    /// Gids that are admitted on a Unix socket.
    pub allow_groups: Vec<u32>,
    /// Networks whose addresses register over UDP without a cookie.
    pub trusted: Vec<IpNet>,
    /// `token_file`: the token that clients have to show, as it was when the configuration was read.
    pub token: Option<Token>,
}

/// How the bytes of a client are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Told apart by the first byte.
    #[default]
    Auto,
    /// Text only.
    Text,
    /// Native frames only.
    Native,
}

/// What the clients of a listener may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Send inputs, and get upcalls.
    #[default]
    Both,
    /// Send only: they are not registered.
    Input,
    /// Get upcalls only: what they send is refused.
    Output,
}

/// `[upcall]`
#[derive(Debug, Clone, PartialEq)]
pub struct Upcall {
    /// How text endpoints see an upcall.
    pub format: Format,
    /// Which endpoints an input is due to.
    pub deliver_to: Audience,
    /// The largest message, in bytes.
    pub max_message: usize,
    /// How long a message that has begun may take to be complete; `None`: for ever.
    pub message_timeout: Option<Duration>,
}

/// `[registry]`
#[derive(Debug, Clone, PartialEq)]
pub struct Registry {
    /// The most endpoints in all.
    pub max_endpoints: usize,
    /// How long a datagram endpoint stays registered without renewing.
    pub lease: Duration,
    /// How long a native session can be resumed.
    pub session_ttl: Duration,
}

/// `[daemon]`
#[derive(Debug, Clone, PartialEq)]
pub struct Daemon {
    /// How long a drain may take.
    pub shutdown_grace: Duration,
    /// The least important lines that are logged.
    pub log_level: Level,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Whether inputs themselves are logged.
    pub log_inputs: When,
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something is refused or lost.
    Warn,
    /// The normal course of things.
    #[default]
    Info,
    /// Every detail.
    Debug,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// To the journal with fields of their own if standard error leads there, else as text.
    #[default]
    Auto,
    /// A line of text.
    Text,
    /// A JSON object on a line of its own.
    Json,
}

/// When inputs are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum When {
    /// When standard error is a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// `[log]`: the ring, not the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// Size of the ring with all its renditions, in bytes.
    pub size: usize,
}

/// `[slow_consumer]`
#[derive(Debug, Clone, PartialEq)]
pub struct SlowConsumer {
    /// How far behind an endpoint may be, in bytes of the log.
    pub max_behind: usize,
    /// How long inputs wait for it.
    pub patience: Patience,
    /// What happens to it then.
    pub policy: Policy,
}

/// What a listener is called when nothing is configured at all.
const DEFAULT_NAME: &str = "default";

impl Default for Config {
    /// The built-in default: one listener, TCP 127.0.0.1:4141.
    fn default() -> Config {
        let host = Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let address = Address::Inet { transport: Transport::Tcp, host, port: DEFAULT_PORT };
        Config {
            listeners: vec![Listener::new(DEFAULT_NAME.into(), address)],
            upcall: Upcall {
                format: Format::default(),
                deliver_to: Audience::default(),
                max_message: 60 << 10,
                message_timeout: Some(Duration::from_secs(30)),
            },
            registry: Registry {
                max_endpoints: 10_000,
                lease: Duration::from_secs(120),
                session_ttl: Duration::from_secs(300),
            },
            daemon: Daemon {
                shutdown_grace: Duration::from_secs(5),
                log_level: Level::default(),
                log_format: LogFormat::default(),
                log_inputs: When::default(),
            },
            log: Log { size: 16 << 20 },
            slow_consumer: SlowConsumer {
                max_behind: 4 << 20,
                patience: Patience::Limited(Duration::from_secs(1)),
                policy: Policy::default(),
            },
        }
    }
}

impl Listener {
    /// A listener of which nothing is said but its name and address.
    pub fn new(name: String, address: Address) -> Listener {
        let trusted = match address.transport() {
            Transport::Udp => values::loopback_networks(),
            _ => Vec::new(),
        };
        Listener {
            name,
            address,
            protocol: Protocol::default(),
            framing: Framing::default(),
            role: Role::default(),
            open: false,
            history: false,
            dual_stack: false,
            allow: Vec::new(),
            deny: Vec::new(),
            max_endpoints: None,
            max_per_source: None,
            mode: 0o660,
            group: None,
            allow_users: Vec::new(),
            allow_groups: Vec::new(),
            trusted,
            token: None,
        }
    }
}
