//! What is packaged fits together: the configuration, the socket units, and the lists of units in scripts.

use std::fs;
use std::path::Path;

use upcall_wire::address::Transport;
use upcalld::config::parse;

const PACKAGED: &str = include_str!("../../config/packaged/upcalld.toml");
const SCRIPTS: [(&str, &str); 4] = [
    ("Makefile", include_str!("../../Makefile")),
    ("postinst", include_str!("../../debian/postinst")),
    ("prerm", include_str!("../../debian/prerm")),
    ("postrm", include_str!("../../debian/postrm")),
];

/// The units, by name and text.
fn units() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let units = files.filter(|path| path.extension().is_some_and(|kind| kind == "service" || kind == "socket"));
    units.map(|path| (path.file_name().unwrap().to_str().unwrap().into(), fs::read_to_string(path).unwrap())).collect()
}

/// The value of a key that a unit has once.
fn value<'u>(unit: &'u str, key: &str) -> Option<&'u str> {
    unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

#[test]
fn every_socket_has_its_listener() {
    // With the listeners that are commented out.
    let text: Vec<&str> = PACKAGED
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .collect();
    let config = parse("packaged", &text.join("\n")).unwrap();
    let mut sockets: Vec<String> = Vec::new();
    for (name, unit) in units().iter().filter(|(name, _)| name.ends_with(".socket")) {
        let wanted = value(unit, "FileDescriptorName").unwrap();
        let listener =
            config.listeners.iter().find(|listener| listener.name == wanted).unwrap_or_else(|| panic!("{name}"));
        let key = match listener.address.transport() {
            Transport::Tcp | Transport::Unix => "ListenStream",
            Transport::Udp | Transport::UnixDatagram => "ListenDatagram",
        };
        let address = listener.address.to_string();
        let (_, place) = address.split_once("://").unwrap();
        assert_eq!(value(unit, key), Some(place), "{name}");
        if place.starts_with('/') {
            assert_eq!(value(unit, "SocketMode").unwrap(), format!("{:04o}", listener.mode), "{name}");
        }
        sockets.push(wanted.into());
    }
    assert_eq!(sockets.len(), config.listeners.len(), "{sockets:?}");
}

#[test]
fn as_it_is_packaged_it_listens_on_loopback_and_on_a_socket() {
    let listeners = parse("packaged", PACKAGED).unwrap().listeners;
    let addresses: Vec<String> = listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["tcp://127.0.0.1:4141", "unix:///run/upcalld/upcalld.sock"]);
}

#[test]
fn scripts_know_every_unit() {
    let units = units();
    assert!(units.len() >= 5);
    for (name, _) in units {
        for (script, text) in SCRIPTS {
            let mut words = text.split(|c: char| c.is_whitespace() || c == '"' || c == ';');
            assert!(words.any(|word| word == name), "{script} does not know {name}");
        }
    }
}

/// `apt search` shows the first line only.
#[test]
fn the_description_is_one_line() {
    assert!(env!("CARGO_PKG_DESCRIPTION").len() < 80);
}
