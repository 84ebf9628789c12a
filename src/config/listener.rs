//! Reads `[[listener]]` tables: their values, and which of the keys can be combined.

use toml::Spanned;
use toml::de::DeValue;
use upcall_wire::address::{Address, Transport};

use super::mistake::Report;
use super::read::{Field, Section, type_name};
use super::schema::{LISTENER_KEYS, RESTRICTED, belongs_in, needs_file};
use super::token::Token;
use super::types::{Config, ListenerConfig, MAX_LISTENERS};
use super::validate;
use super::values::{ADDRESS, BOOLEAN, COUNT, GROUP, MODE, NAME, NETWORK, TOKEN_FILE, USER, word};

/// A listener, as far as it could be read.
struct ListenerDraft {
    listener: ListenerConfig,
    /// Offset of its name, if it has a valid one.
    name_at: Option<usize>,
    /// Offset of its address, if it has a valid one.
    address_at: Option<usize>,
}

/// Reads the value of `listener`: an array of tables.
pub(super) fn read_all(value: &Spanned<DeValue<'_>>, report: &mut Report<'_>) -> Vec<ListenerConfig> {
    let Some(array) = value.get_ref().as_array() else {
        report.wrong(value.span().start, "there can be several listeners; write [[listener]], in double brackets");
        return Vec::new();
    };
    if array.is_empty() {
        report.wrong(value.span().start, "listener is an empty list; leave out the key to get the default listener");
    }
    if let Some(one_too_many) = array.get(MAX_LISTENERS) {
        report.rule(one_too_many.span().start, format!("there can be at most {MAX_LISTENERS} listeners"));
    }
    let mut drafts: Vec<ListenerDraft> =
        array.iter().take(MAX_LISTENERS).filter_map(|value| read(value, report)).collect();
    assign_names(&mut drafts, report);
    let mut listeners: Vec<ListenerConfig> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        if let Some(at) = draft.address_at {
            if let Some(reason) = validate::collision(&draft.listener, &listeners) {
                report.rule(at, reason);
            }
            listeners.push(draft.listener);
        }
    }
    listeners
}

/// Gives a name to each listener that has none, and reports names that are used twice.
fn assign_names(drafts: &mut [ListenerDraft], report: &mut Report<'_>) {
    for index in 0..drafts.len() {
        let (before, rest) = drafts.split_at(index);
        let name = &rest[0].listener.name;
        if let Some(at) = rest[0].name_at
            && before.iter().any(|other| other.name_at.is_some() && other.listener.name == *name)
        {
            report.rule(at, format!("name \"{name}\" is used by another listener"));
        }
    }
    for index in 0..drafts.len() {
        if drafts[index].name_at.is_none() {
            let taken = |name: &str| drafts.iter().any(|other| other.listener.name == name);
            drafts[index].listener.name = validate::default_name(&drafts[index].listener.address, index, taken);
        }
    }
}

fn read(value: &Spanned<DeValue<'_>>, report: &mut Report<'_>) -> Option<ListenerDraft> {
    let header = value.span().start;
    let Some(table) = value.get_ref().as_table() else {
        let found = type_name(value.get_ref());
        report.wrong(header, format!("a listener is a table, not {found}; write [[listener]] and its keys below"));
        return None;
    };
    let section = Section::new("[[listener]]", table, &LISTENER_KEYS, |key| belongs_in(key, "listener"), report);
    let (transport, address) = read_address(&section, header, report);
    let address_at = address.at();
    let address = address.value();

    // Without an address there is no listener, but its other values are checked nevertheless.
    let stand_in = || Config::default().listeners.swap_remove(0).address;
    let mut listener = ListenerConfig::new(String::new(), address.clone().unwrap_or_else(stand_in));
    let name = section.field("name", &NAME, report);
    let name_at = name.at();
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
        report_misplaced(&section, transport, address.as_ref(), report);
        for (key, reason) in validate::beyond_text(&listener) {
            report.rule(section.key_at(key).unwrap_or(header), reason);
        }
    }
    if let Some(at) = address_at {
        if rules_known && let Some(reason) = validate::exposed(&listener) {
            report.rule(at, reason);
        }
        if let Some(reason) = validate::dual_stack(&listener) {
            report.rule(dual_stack_at.unwrap_or(at), reason);
        }
    }
    Some(ListenerDraft { listener, name_at, address_at })
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
    // Whether an address is valid depends on the transport. If that is wrong or missing, it has been reported.
    let Some(transport) = transport.value() else { return (None, Field::Wrong) };
    (Some(transport), address.then(report, |text| validate::address(transport, &text)))
}

/// Reports keys that have no effect on this transport, because the user expects an effect.
fn report_misplaced(section: &Section<'_>, transport: Transport, address: Option<&Address>, report: &mut Report<'_>) {
    for (key, transports) in RESTRICTED {
        let Some(at) = section.key_at(key) else { continue };
        if !transports.contains(&transport) {
            let names: Vec<_> = transports.iter().map(|transport| transport.name()).collect();
            let names = names.join(" and ");
            report.rule(at, format!("\"{key}\" is for {names} only, and transport is \"{transport}\""));
        } else if address.is_some_and(|address| needs_file(key, address)) {
            let advice = "use \"allow_users\" and \"allow_groups\" to restrict access";
            report
                .rule(at, format!("\"{key}\" is for the file of a socket, and an abstract socket has none; {advice}"));
        }
    }
}
