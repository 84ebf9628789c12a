//! What `--print-config` prints is a configuration file for the same configuration.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use upcall_engine::{Audience, Patience, Policy};
use upcall_wire::address::Address;
use upcall_wire::format::Format;
use upcall_wire::text::Framing;
use upcalld::config::{
    Config, DaemonConfig, Level, ListenerConfig, ListenerProtocol, ListenerRole, LogConfig, LogFormat, RegistryConfig,
    SlowConsumerConfig, UpcallConfig, When, parse,
};

type Networks = Vec<ipnet::IpNet>;

fn networks() -> impl Strategy<Value = Networks> {
    let known = ["192.0.2.0/24", "0.0.0.0/0", "10.1.2.3/32", "2001:db8::/32", "::1/128"];
    vec(select(known.to_vec()).prop_map(|text| text.parse().unwrap()), 0..4)
}

fn duration(least: u64) -> impl Strategy<Value = Duration> {
    (least..2_592_000_000_000_000u64, any::<bool>()).prop_map(|(nanos, coarse)| match coarse {
        true => Duration::from_secs(nanos.div_ceil(1_000_000_000)),
        false => Duration::from_nanos(nanos),
    })
}

/// An address for the listener number `index`, so that no two collide, and whether it may be dual-stack.
fn address(index: usize) -> impl Strategy<Value = Address> {
    let port = 1_000 + index;
    let urls = vec![
        format!("tcp://127.0.0.1:{port}"),
        format!("tcp://192.0.2.1:{port}"),
        format!("tcp://[::]:{port}"),
        "tcp://[::1]:0".into(),
        format!("unix:///nowhere/\"ü\" \\{index}\t\u{202e}.sock"),
        format!("unix://@lab 'n {index}"),
    ];
    select(urls).prop_map(|url| Address::parse_url(&url, None).unwrap())
}

prop_compose! {
    fn listener(index: usize)(
        address in address(index),
        name in "[A-Za-z0-9_.-]{1,8}",
        protocol in select(vec![ListenerProtocol::Auto, ListenerProtocol::Text, ListenerProtocol::Native]),
        framing in select(vec![Framing::Auto, Framing::Line, Framing::Chunk]),
        role in select(vec![ListenerRole::Both, ListenerRole::Input, ListenerRole::Output]),
        (open, dual_stack, history) in any::<(bool, bool, bool)>(),
        (allow, deny) in (networks(), networks()),
        (max_endpoints, max_per_source) in (option::of(1..1_000_000usize), option::of(1..1_000_000usize)),
        (mode, group) in (0..=0o777u32, option::of(0..u32::MAX)),
        (allow_users, allow_groups) in (vec(0..u32::MAX, 0..3), vec(0..u32::MAX, 0..3)),
    ) -> ListenerConfig {
        let (inet, local) = (address.transport().is_inet(), address.is_local());
        let (any6, file) = (address.place().starts_with("[::]"), address.place().starts_with('/'));
        let plain = ListenerConfig::new(format!("{name}-{index}"), address);
        let history = history && protocol != ListenerProtocol::Text;
        let listener = ListenerConfig { protocol, framing, role, history, max_endpoints, max_per_source, ..plain };
        if inet {
            let open = open || allow.is_empty() && !local;
            ListenerConfig { open, dual_stack: dual_stack && any6, allow, deny, ..listener }
        } else {
            let (mode, group) = if file { (mode, group) } else { (0o660, None) };
            ListenerConfig { open, mode, group, allow_users, allow_groups, ..listener }
        }
    }
}

prop_compose! {
    fn config()(
        listeners in (listener(1), listener(2), listener(3)),
        count in 1..=3usize,
        format in select(vec!["", "{data}", "\"{data}\" \\ '''\"\"\" {{x}}\r\n\t\u{1b}[m {seq} {from}\u{85}ü", "{time}\n{data}\n"]),
        deliver_to in select(vec![Audience::All, Audience::Others, Audience::Sender]),
        message_timeout in option::of(duration(1)),
        (max_endpoints, lease, session_ttl) in (1..=1_000_000usize, duration(1), duration(1)),
        shutdown_grace in duration(0),
        (log_level, log_format) in (
            select(vec![Level::Error, Level::Warn, Level::Info, Level::Debug]),
            select(vec![LogFormat::Auto, LogFormat::Text, LogFormat::Json]),
        ),
        log_inputs in select(vec![When::Auto, When::Always, When::Never]),
        patience in option::of(duration(0)),
        policy in select(vec![Policy::Disconnect, Policy::Skip]),
        (size, behind, message) in (1usize << 20..=4 << 30, 2usize..500, 1usize..200),
    ) -> Config {
        let max_behind = size / behind;
        Config {
            listeners: [listeners.0, listeners.1, listeners.2].into_iter().take(count).collect(),
            upcall: UpcallConfig {
                format: Format::parse(format).unwrap(),
                deliver_to,
                max_message: (max_behind - 400) / message,
                message_timeout,
            },
            registry: RegistryConfig { max_endpoints, lease, session_ttl },
            daemon: DaemonConfig { shutdown_grace, log_level, log_format, log_inputs },
            log: LogConfig { size },
            slow_consumer: SlowConsumerConfig {
                max_behind,
                patience: patience.map_or(Patience::Forever, Patience::Limited),
                policy,
            },
        }
    }
}

proptest! {
    #[test]
    fn what_is_printed_parses_back_to_the_same(config in config()) {
        let text = config.to_toml();
        prop_assert!(!text.contains(['\u{1b}', '\u{202e}', '\r']), "a terminal could be steered: {text:?}");
        prop_assert_eq!(parse("printed", &text), Ok(config), "{}", text);
    }
}

#[test]
fn the_default_is_printed_with_every_key_that_applies() {
    let text = Config::default().to_toml();
    assert_eq!(parse("printed", &text), Ok(Config::default()));
    for line in [
        "[[listener]]",
        "name = \"default\"",
        "address = \"127.0.0.1:4141\"",
        "open = false",
        "allow = []",
        "# max_endpoints is not set",
        "# token_file is not set",
        "format = \"Upcall event: Processing {data}\"",
        "max_message = \"60KiB\"",
        "message_timeout = \"30s\"",
        "max_endpoints = 10000",
        "lease = \"2m\"",
        "log_level = \"info\"",
        "log_format = \"auto\"",
        "size = \"16MiB\"",
        "patience = \"1s\"",
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line} is missing in:\n{text}");
    }
    assert!(!text.contains("mode"), "a TCP listener has no mode");
}
