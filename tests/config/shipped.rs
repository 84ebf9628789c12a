//! The shipped `config/upcalld.toml` is the reference: every key, at its default.

use upcall_wire::address::Address;
use upcalld::config::{Config, ListenerConfig, SCHEMA, parse};

const SHIPPED: &str = include_str!("../../config/upcalld.toml");

/// The text with its defaults uncommented: lines that begin with `#` and no space.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The blocks that begin with a commented `[[listener]]`, uncommented, and the file without them.
fn other_listeners() -> (String, Vec<String>) {
    let (first, rest) = SHIPPED.split_once("\n#[[listener]]").unwrap();
    let (rest, tables) = rest.split_once("\n[upcall]").unwrap();
    let blocks = rest.split("\n#[[listener]]").map(|block| uncommented(&format!("#[[listener]]{block}")));
    (format!("{first}\n[upcall]{tables}"), blocks.collect())
}

#[test]
fn as_it_is_shipped_it_is_the_built_in_default() {
    assert_eq!(parse("upcalld.toml", SHIPPED), Ok(Config::default()));
}

#[test]
fn every_key_is_in_it() {
    // A key counts where it stands in its own table.
    let mut table = String::new();
    let mut found = Vec::new();
    for line in SHIPPED.lines() {
        let line = line.strip_prefix("# example: ").or(line.strip_prefix('#')).unwrap_or(line);
        if line.starts_with('[') {
            table = line.trim_matches(['[', ']']).into();
        } else if let Some((key, _)) = line.split_once(" = ") {
            found.push((table.clone(), key.to_string()));
        }
    }
    for (table, keys) in SCHEMA {
        for key in keys {
            assert!(found.contains(&(table.into(), key.to_string())), "{key} of {table} is missing");
        }
    }
}

#[test]
fn every_default_in_it_is_the_default() {
    let (file, _) = other_listeners();
    let text = uncommented(&file);
    assert!(text.contains("\nprotocol = \"auto\""), "nothing was uncommented");
    assert_eq!(parse("upcalld.toml", &text), Ok(Config::default()));
}

#[test]
fn the_unix_listener_in_it_shows_defaults() {
    let (_, blocks) = other_listeners();
    let unix = parse("unix", &blocks[0]).unwrap();
    let address = Address::parse_url("unix:///run/upcalld/upcalld.sock", None).unwrap();
    assert_eq!(unix.listeners, [ListenerConfig::new("local".into(), address)]);
    assert!(blocks[0].contains("\nmode = "));
}

#[test]
fn the_udp_listener_in_it_shows_defaults() {
    let (_, blocks) = other_listeners();
    let address = Address::parse_url("udp://127.0.0.1:4141", None).unwrap();
    let udp = parse("udp", &blocks[1]).unwrap();
    assert_eq!(udp.listeners, [ListenerConfig::new("displays".into(), address.clone())]);
    let trusted = ListenerConfig::new("displays".into(), address).trusted;
    let trusted = trusted.iter().map(|network| format!("\"{}\"", network.to_string().replace("/128", "")));
    let line = format!("\ntrusted = [{}]", trusted.collect::<Vec<_>>().join(", "));
    assert!(blocks[1].contains(&line), "{line}");
    assert_eq!(blocks.len(), 2);
}
