//! Everything that can be configured, as validated types with their defaults.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use upcall_engine::{Audience, Patience, Policy};
use upcall_wire::address::{Address, DEFAULT_PORT, Host, Transport};
use upcall_wire::format::Format;
use upcall_wire::text::Framing;

use super::token::Token;

/// The most listeners that one daemon has.
pub const MAX_LISTENERS: usize = 1_000;

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[[listener]]`: at least one.
    pub listeners: Vec<ListenerConfig>,
    /// `[upcall]`
    pub upcall: UpcallConfig,
    /// `[registry]`
    pub registry: RegistryConfig,
    /// `[daemon]`
    pub daemon: DaemonConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[slow_consumer]`
    pub slow_consumer: SlowConsumerConfig,
}

/// `[[listener]]`: the address, the admitted clients, and the interpretation of their bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerConfig {
    /// 1–64 characters of `A-Za-z0-9_.-`, unique among the listeners.
    pub name: String,
    /// Where it listens; an internet host is always an IP address.
    pub address: Address,
    /// The protocol of the clients.
    pub protocol: ListenerProtocol,
    /// How text streams are divided into messages.
    pub framing: Framing,
    /// Whether its clients send, receive, or both.
    pub role: ListenerRole,
    /// Clients of other machines may connect, even if neither `allow` nor a token restricts them.
    pub open: bool,
    /// A new client may request inputs from before it connected.
    pub history: bool,
    /// `[::]` accepts IPv4 clients too.
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
    /// Group of a Unix socket's file, a gid; `None`: the daemon's own.
    pub group: Option<u32>,
    /// Uids that are admitted on a Unix socket; if this and `allow_groups` are both empty, all are.
    pub allow_users: Vec<u32>,
    /// Gids that are admitted on a Unix socket.
    pub allow_groups: Vec<u32>,
    /// Networks whose addresses register over UDP without a cookie.
    pub trusted: Vec<IpNet>,
    /// `token_file`: the token that clients have to present, as it was when the configuration was read.
    pub token: Option<Token>,
}

/// The protocol that the clients of a listener speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListenerProtocol {
    /// Text or native, depending on the first byte.
    #[default]
    Auto,
    /// Text only.
    Text,
    /// Native frames only.
    Native,
}

/// Whether the clients of a listener send, receive, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListenerRole {
    /// They send inputs and receive upcalls.
    #[default]
    Both,
    /// They send only, and are not registered.
    Input,
    /// They receive upcalls only; their inputs are refused.
    Output,
}

/// `[upcall]`
#[derive(Debug, Clone, PartialEq)]
pub struct UpcallConfig {
    /// How an upcall is rendered for text endpoints.
    pub format: Format,
    /// Which endpoints an input is due to.
    pub deliver_to: Audience,
    /// The largest message, in bytes.
    pub max_message: usize,
    /// The longest time from the beginning of a message to its end; `None`: no limit.
    pub message_timeout: Option<Duration>,
}

/// `[registry]`
#[derive(Debug, Clone, PartialEq)]
pub struct RegistryConfig {
    /// The most endpoints in total.
    pub max_endpoints: usize,
    /// The time for which a datagram endpoint stays registered without renewing.
    pub lease: Duration,
    /// The time for which a native session can be resumed.
    pub session_ttl: Duration,
}

/// `[daemon]`
#[derive(Debug, Clone, PartialEq)]
pub struct DaemonConfig {
    /// The longest time that a drain may take.
    pub shutdown_grace: Duration,
    /// The least important level that is logged.
    pub log_level: Level,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Whether the inputs themselves are logged.
    pub log_inputs: When,
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something is refused or lost.
    Warn,
    /// Normal operation.
    #[default]
    Info,
    /// Every detail.
    Debug,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// As structured fields if standard error leads to the journal, else as text.
    #[default]
    Auto,
    /// A line of text.
    Text,
    /// A JSON object on a separate line.
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

/// `[log]`: the ring of inputs, not the daemon's log lines.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// Size of the ring with all its renditions, in bytes.
    pub size: usize,
}

/// `[slow_consumer]`
#[derive(Debug, Clone, PartialEq)]
pub struct SlowConsumerConfig {
    /// How far behind an endpoint may be, in bytes of the log.
    pub max_behind: usize,
    /// How long inputs wait for such an endpoint.
    pub patience: Patience,
    /// What happens to the endpoint then.
    pub policy: Policy,
}

/// The name of the listener in the built-in default.
const DEFAULT_NAME: &str = "default";

impl Default for Config {
    /// The built-in default: one listener, TCP 127.0.0.1:4141.
    fn default() -> Config {
        let host = Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let address = Address::Inet { transport: Transport::Tcp, host, port: DEFAULT_PORT };
        Config {
            listeners: vec![ListenerConfig::new(DEFAULT_NAME.into(), address)],
            upcall: UpcallConfig {
                format: Format::default(),
                deliver_to: Audience::default(),
                max_message: 60 << 10,
                message_timeout: Some(Duration::from_secs(30)),
            },
            registry: RegistryConfig {
                max_endpoints: 10_000,
                lease: Duration::from_secs(120),
                session_ttl: Duration::from_secs(300),
            },
            daemon: DaemonConfig {
                shutdown_grace: Duration::from_secs(5),
                log_level: Level::default(),
                log_format: LogFormat::default(),
                log_inputs: When::default(),
            },
            log: LogConfig { size: 16 << 20 },
            slow_consumer: SlowConsumerConfig {
                max_behind: 4 << 20,
                patience: Patience::Limited(Duration::from_secs(1)),
                policy: Policy::default(),
            },
        }
    }
}

impl ListenerConfig {
    /// A listener with this name and address, and all other values at their defaults.
    pub fn new(name: String, address: Address) -> ListenerConfig {
        let trusted = match address.transport() {
            Transport::Udp => loopback_networks(),
            _ => Vec::new(),
        };
        ListenerConfig {
            name,
            address,
            protocol: ListenerProtocol::default(),
            framing: Framing::default(),
            role: ListenerRole::default(),
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

/// The networks that register over UDP without a cookie unless others are configured.
pub(super) fn loopback_networks() -> Vec<IpNet> {
    ["127.0.0.0/8", "::1/128"].into_iter().filter_map(|text| text.parse().ok()).collect()
}
