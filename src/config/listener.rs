//! Reads `[[listener]]` tables: the values of each, and which of its keys go together.

use toml::Spanned;
use toml::de::DeValue;

use super::mistake::Report;
use super::parse::belongs_in;
use super::read::{Field, Section, type_name};
use super::values::{ADDRESS, BOOLEAN, COUNT, GROUP, MODE, NAME, NETWORK, TOKEN_FILE, USER, word};
use super::{Config, Listener, MAX_LISTENERS, Token, validate};
use upcall_wire::address::{Address, Transport, UnixName};

/// The keys of a listener, in the order in which documents list them.
pub(super) const KEYS: [&str; 19] = [
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

/// The keys that mean something on certain transports only.
const RESTRICTED: [(&str, &[Transport]); 9] = [
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

/// Whether a key of a listener means something at this address.
pub(super) fn applies(key: &str, address: &Address) -> bool {
    let restricted = RESTRICTED.iter().find(|(restricted, _)| *restricted == key);
    restricted.is_none_or(|(_, transports)| transports.contains(&address.transport())) && !needs_file(key, address)
}

/// Whether a key is about the file of a socket, and the address has none.
fn needs_file(key: &str, address: &Address) -> bool {
    ["mode", "group"].contains(&key) && matches!(address, Address::Unix { name: UnixName::Abstract(_), .. })
}

/// A listener as far as it could be read.
struct Draft {
    listener: Listener,
    /// Where its name is, if it has one.
    named: Option<usize>,
    /// Where its address is, if it has a good one.
    placed: Option<usize>,
}

/// Reads the value of `listener`: an array of tables.
pub(super) fn read_all(value: &Spanned<DeValue<'_>>, report: &mut Report<'_>) -> Vec<Listener> {
    let Some(array) = value.get_ref().as_array() else {
        report.wrong(value.span().start, "there can be several listeners; write [[listener]], in double brackets");
        return Vec::new();
    };
    if array.is_empty() {
        report.wrong(value.span().start, "listener is an empty list; without the key, there is the default one");
    }
    if let Some(one_too_many) = array.get(MAX_LISTENERS) {
        report.rule(one_too_many.span().start, format!("this is listener number {}", MAX_LISTENERS + 1));
    }
    let mut drafts: Vec<Draft> = array.iter().take(MAX_LISTENERS).filter_map(|value| read(value, report)).collect();
    name(&mut drafts, report);
    let mut listeners: Vec<Listener> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        if let Some(at) = draft.placed {
            if let Some(reason) = validate::collision(&draft.listener, &listeners) {
                report.rule(at, reason);
            }
            listeners.push(draft.listener);
        }
    }
    listeners
}

/// Gives names to those that have none, and finds those that have another's.
fn name(drafts: &mut [Draft], report: &mut Report<'_>) {
    for index in 0..drafts.len() {
        let (before, rest) = drafts.split_at(index);
        let (name, named) = (&rest[0].listener.name, rest[0].named);
        if named.is_some() && before.iter().any(|other| other.named.is_some() && other.listener.name == *name) {
            report.rule(named.unwrap_or_default(), format!("name \"{name}\" is taken by another listener"));
        }
    }
    for index in 0..drafts.len() {
        if drafts[index].named.is_none() {
            let taken = |name: &str| drafts.iter().any(|other| other.listener.name == name);
            drafts[index].listener.name = validate::default_name(&drafts[index].listener.address, index, taken);
        }
    }
}

fn read(value: &Spanned<DeValue<'_>>, report: &mut Report<'_>) -> Option<Draft> {
    let header = value.span().start;
    let Some(table) = value.get_ref().as_table() else {
        let found = type_name(value.get_ref());
        report.wrong(header, format!("a listener is a table, not {found}; write [[listener]] and its keys below"));
        return None;
    };
    let section = Section::new("[[listener]]", table, &KEYS, |key| belongs_in(key, "listener"), report);
    let (transport, address) = read_address(&section, header, report);
    let placed = address.at();
    let address = address.value();

    // Without an address there is no listener, but its other values are looked at just the same.
    let stand_in = || Config::default().listeners.swap_remove(0).address;
    let mut listener = Listener::new(String::new(), address.clone().unwrap_or_else(stand_in));
    let name = section.field("name", &NAME, report);
    let named = name.at();
    name.set(&mut listener.name);
    section.field("protocol", &word(), report).set(&mut listener.protocol);
    section.field("framing", &word(), report).set(&mut listener.framing);
    section.field("role", &word(), report).set(&mut listener.role);
    section.field("history", &BOOLEAN, report).set(&mut listener.history);
    listener.max_endpoints = section.field("max_endpoints", &COUNT, report).value();
    listener.max_per_source = section.field("max_per_source", &COUNT, report).value();
    section.field("mode", &MODE, report).set(&mut listener.mode);
    listener.group = section.field("group", &GROUP, report).value();
    section.list("allow_users", &USER, report).set(&mut listener.allow_users);
    section.list("allow_groups", &GROUP, report).set(&mut listener.allow_groups);
    section.list("trusted", &NETWORK, report).set(&mut listener.trusted);
    section.list("deny", &NETWORK, report).set(&mut listener.deny);

    let open = section.field("open", &BOOLEAN, report);
    let dual_stack = section.field("dual_stack", &BOOLEAN, report);
    let allow = section.list("allow", &NETWORK, report);
    let token_file = section.field("token_file", &TOKEN_FILE, report).then(report, Token::read);
    let dual_stack_at = dual_stack.at();
    let rules_known = !(open.is_wrong() || allow.is_wrong() || token_file.is_wrong());
    open.set(&mut listener.open);
    dual_stack.set(&mut listener.dual_stack);
    allow.set(&mut listener.allow);
    listener.token = token_file.value();

    if let Some(transport) = transport {
        misplaced(&section, transport, address.as_ref(), report);
        for (key, reason) in validate::beyond_text(&listener) {
            report.rule(section.key_at(key).unwrap_or(header), reason);
        }
    }
    if let Some(at) = placed {
        if rules_known && let Some(reason) = validate::exposed(&listener) {
            report.rule(at, reason);
        }
        if let Some(reason) = validate::dual_stack(&listener) {
            report.rule(dual_stack_at.unwrap_or(at), reason);
        }
    }
    Some(Draft { listener, named, placed })
}

fn read_address(section: &Section<'_>, header: usize, report: &mut Report<'_>) -> (Option<Transport>, Field<Address>) {
    let transport = section.field("transport", &word::<Transport>(), report);
    let address = section.field("address", &ADDRESS, report);
    if matches!(transport, Field::Absent) {
        report.rule(header, "this listener has no \"transport\"; write for example transport = \"tcp\"");
    }
    if matches!(address, Field::Absent) {
        report.rule(header, "this listener has no \"address\"; write for example address = \"127.0.0.1:4141\"");
    }
    // Whether an address is a good one depends on the transport; what is wrong with that is said already.
    let Some(transport) = transport.value() else { return (None, Field::Wrong) };
    (Some(transport), address.then(report, |text| validate::address(transport, &text)))
}

/// Reports keys that say nothing about this transport: who wrote them expects something that will not happen.
fn misplaced(section: &Section<'_>, transport: Transport, address: Option<&Address>, report: &mut Report<'_>) {
    for (key, transports) in RESTRICTED {
        let Some(at) = section.key_at(key) else { continue };
        if !transports.contains(&transport) {
            let names: Vec<_> = transports.iter().map(|transport| transport.name()).collect();
            let names = names.join(" and ");
            report.rule(at, format!("\"{key}\" is for {names} only, and transport is \"{transport}\""));
        } else if address.is_some_and(|address| needs_file(key, address)) {
            let advice = "everybody can connect to it but for \"allow_users\" and \"allow_groups\"";
            report
                .rule(at, format!("\"{key}\" is for the file of a socket, and an abstract socket has none; {advice}"));
        }
    }
}
