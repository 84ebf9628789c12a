//! The schema: which tables there are, which keys they have, and which keys of a listener apply to which transport.

use upcall_wire::address::{Address, Transport, UnixName};

/// Every table of the file with its keys. `listener` is an array of tables.
pub const SCHEMA: [(&str, &[&str]); 6] = [
    ("listener", &LISTENER_KEYS),
    ("upcall", &["format", "deliver_to", "max_message", "message_timeout"]),
    ("registry", &["max_endpoints", "lease", "session_ttl"]),
    ("daemon", &["shutdown_grace", "log_level", "log_format", "log_inputs"]),
    ("log", &["size"]),
    ("slow_consumer", &["max_behind", "patience", "policy"]),
];

/// The names of the tables.
pub(super) const TABLES: [&str; SCHEMA.len()] = {
    let mut names = [""; SCHEMA.len()];
    let mut table = 0;
    while table < SCHEMA.len() {
        names[table] = SCHEMA[table].0;
        table += 1;
    }
    names
};

/// The keys of a listener, in the order in which they are documented and printed.
pub(super) const LISTENER_KEYS: [&str; 19] = [
    "name",
    "transport",
    "address",
    "protocol",
    "framing",
    "role",
    "open",
    "history",
    "dual_stack",
    "allow",
    "deny",
    "max_endpoints",
    "max_per_source",
    "mode",
    "group",
    "allow_users",
    "allow_groups",
    "trusted",
    "token_file",
];

/// The keys that apply to certain transports only.
pub(super) const RESTRICTED: [(&str, &[Transport]); 9] = [
    ("framing", &[Transport::Tcp, Transport::Unix]),
    ("dual_stack", &[Transport::Tcp, Transport::Udp]),
    ("allow", &[Transport::Tcp, Transport::Udp]),
    ("deny", &[Transport::Tcp, Transport::Udp]),
    ("mode", &[Transport::Unix, Transport::UnixDatagram]),
    ("group", &[Transport::Unix, Transport::UnixDatagram]),
    ("allow_users", &[Transport::Unix, Transport::UnixDatagram]),
    ("allow_groups", &[Transport::Unix, Transport::UnixDatagram]),
    ("trusted", &[Transport::Udp]),
];

/// Whether a key applies to a listener with this address.
pub(super) fn applies(key: &str, address: &Address) -> bool {
    let restricted = RESTRICTED.iter().find(|(restricted, _)| *restricted == key);
    restricted.is_none_or(|(_, transports)| transports.contains(&address.transport())) && !needs_file(key, address)
}

/// Whether a key is about the file of a socket, and the address has none.
pub(super) fn needs_file(key: &str, address: &Address) -> bool {
    ["mode", "group"].contains(&key) && matches!(address, Address::Unix { name: UnixName::Abstract(_), .. })
}

/// The table that a key belongs to, if that is another than `here`, where it was found.
pub(super) fn belongs_in(key: &str, here: &str) -> Option<String> {
    let (table, _) = SCHEMA.iter().find(|(table, keys)| *table != here && keys.contains(&key))?;
    Some(if *table == "listener" { "[[listener]]".into() } else { format!("[{table}]") })
}
