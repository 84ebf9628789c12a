//! The rules: which addresses are possible, which listeners must restrict access, which listeners collide, which sizes
//! must fit into others, and which keys need the native protocol. They are the same for files and for `--listen`; only
//! the messages differ.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use upcall_wire::address::{Address, Host, Transport, UnixName};

use super::mistake::Report;
use super::read::Field;
use super::types::{Config, ListenerConfig, ListenerProtocol};
use super::units::print_size;

/// The keys of a text-only listener that the text protocol cannot support, each with the reason. To accept
/// and ignore such a key would mislead the user.
pub(super) fn beyond_text(listener: &ListenerConfig) -> Vec<(&'static str, String)> {
    let rules = [
        (listener.token.is_some(), "token_file", "carry a token"),
        (listener.history, "history", "request earlier inputs"),
    ];
    let reason = |key: &str, what: &str| {
        format!("\"{key}\" is for native clients, and protocol is \"text\", which cannot {what}")
    };
    let text = listener.protocol == ListenerProtocol::Text;
    rules.into_iter().filter(|rule| rule.0 && text).map(|(_, key, what)| (key, reason(key, what))).collect()
}

/// Parses the address of a listener.
pub(super) fn address(transport: Transport, text: &str) -> Result<Address, String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(format!("leave out \"{scheme}://\", since \"transport\" is a separate key; write \"{rest}\""));
    }
    bindable(Address::parse(transport, text, None).map_err(|error| error.to_string())?)
}

/// Checks that an address can be listened on: an IP address, `localhost` included, or the name of a Unix socket whose
/// path is free or holds a socket.
pub(super) fn bindable(address: Address) -> Result<Address, String> {
    match address {
        Address::Inet { transport, host: Host::Name(name), port } if name == "localhost" => {
            Ok(Address::Inet { transport, host: Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)), port })
        }
        Address::Inet { host: Host::Name(name), .. } => Err(format!(
            "\"{name}\" is a host name, and looking it up could stall a reload; write an IP address, or 0.0.0.0 for all"
        )),
        Address::Inet { host: Host::Ip(IpAddr::V6(v6)), port, .. } if v6.to_ipv4_mapped().is_some() => {
            let v4 = IpAddr::V6(v6).to_canonical();
            Err(format!("[{v6}] is an IPv4 address in an IPv6 one; write {v4}:{port}"))
        }
        Address::Unix { name: UnixName::Path(path), transport } => {
            socket_path(&path)?;
            Ok(Address::Unix { name: UnixName::Path(path), transport })
        }
        other => Ok(other),
    }
}

/// Checks that the path of a socket does not hold another kind of file. If the path cannot be inspected, the bind will
/// report the error.
fn socket_path(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let what = match found.file_type() {
                kind if kind.is_dir() => "a directory",
                kind if kind.is_symlink() => "a symbolic link",
                _ => "not a socket",
            };
            Err(format!("\"{}\" exists and is {what}; the path has to be free, or that of a socket", path.display()))
        }
        _ => Ok(()),
    }
}

/// The reason to refuse a listener that is reachable from other machines without any key that permits that.
pub(super) fn exposed(listener: &ListenerConfig) -> Option<String> {
    let admits = !listener.allow.is_empty() || listener.token.is_some() || listener.open;
    if admits || listener.address.is_local() {
        return None;
    }
    let place = listener.address.place();
    let but = if listener.deny.is_empty() { "" } else { " (\"deny\" alone admits every other client)" };
    let what = "can be reached from other machines, and no key restricts which clients are admitted";
    Some(format!("{place} {what}{but}; write allow = [\"192.0.2.0/24\"] with your network, or open = true"))
}

/// The reason why `dual_stack` is impossible with this address.
pub(super) fn dual_stack(listener: &ListenerConfig) -> Option<String> {
    let place = listener.address.place();
    let possible = matches!(ip(&listener.address), None | Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    let wrong = listener.dual_stack && !possible;
    wrong.then(|| format!("dual_stack = true needs the address \"[::]:port\", and this one is \"{place}\""))
}

/// The reason why a listener cannot be bound beside the others.
pub(super) fn collision(listener: &ListenerConfig, others: &[ListenerConfig]) -> Option<String> {
    let other = others.iter().find(|other| collide(listener, other))?;
    Some(format!("address collides with listener \"{}\", which is on {}", other.name, other.address))
}

fn collide(a: &ListenerConfig, b: &ListenerConfig) -> bool {
    match (&a.address, &b.address) {
        (Address::Inet { transport, port, .. }, Address::Inet { transport: other, port: taken, .. }) => {
            let (Some(ip), Some(its_ip)) = (ip(&a.address), ip(&b.address)) else { return false };
            let overlap = if ip.is_ipv4() == its_ip.is_ipv4() {
                ip == its_ip || ip.is_unspecified() || its_ip.is_unspecified()
            } else {
                // An IPv4 and an IPv6 address overlap only if the IPv6 one is a dual-stack wildcard.
                [(a, ip), (b, its_ip)].iter().any(|(listener, ip)| listener.dual_stack && ip.is_unspecified())
            };
            transport == other && port == taken && *port != 0 && overlap
        }
        // A path belongs to one file, whatever its type of socket. Abstract names are separate for each type.
        (Address::Unix { name: UnixName::Path(path), .. }, Address::Unix { name: UnixName::Path(taken), .. }) => {
            path == taken
        }
        (a, b) => matches!(a, Address::Unix { .. }) && a == b,
    }
}

fn ip(address: &Address) -> Option<IpAddr> {
    match address {
        Address::Inet { host: Host::Ip(ip), .. } => Some(*ip),
        _ => None,
    }
}

/// The name of a listener without one: its transport and its number from 1, or the next number that is free.
pub(super) fn default_name(address: &Address, index: usize, taken: impl Fn(&str) -> bool) -> String {
    let names = (index + 1..).map(|number| format!("{}-{number}", address.transport()));
    names.into_iter().find(|name| !taken(name)).unwrap_or_default()
}

/// The places of the values that the rules in [`sizes`] compare.
pub(super) struct Marks {
    pub(super) format: Field<()>,
    pub(super) max_message: Field<()>,
    pub(super) max_behind: Field<()>,
    pub(super) log_size: Field<()>,
}

/// Checks that the largest message, as rendered for text endpoints, fits into `max_behind`, and `max_behind` twice into
/// the log.
pub(super) fn sizes(config: &Config, marks: &Marks, report: &mut Report<'_>) {
    let (max_message, max_behind) = (config.upcall.max_message, config.slow_consumer.max_behind);
    let shown = format!("max_behind ({}) of [slow_consumer]", print_size(max_behind));
    let at = |fields: &[&Field<()>]| {
        let known = !fields.iter().any(|field| field.is_wrong());
        fields.iter().find_map(|field| field.at()).filter(|_| known)
    };
    if max_message > max_behind {
        if let Some(at) = at(&[&marks.max_message, &marks.max_behind]) {
            report.rule(at, format!("max_message ({}) is more than {shown}", print_size(max_message)));
        }
    } else if let Some(at) = at(&[&marks.format, &marks.max_message, &marks.max_behind])
        && config.upcall.format.max_rendered(max_message) > max_behind
    {
        let message = print_size(max_message);
        report.rule(at, format!("with this format, a message of max_message ({message}) becomes larger than {shown}"));
    }
    if let Some(at) = at(&[&marks.max_behind, &marks.log_size])
        && max_behind > config.log.size / 2
    {
        report.rule(at, format!("{shown} is more than half of size ({}) of [log]", print_size(config.log.size)));
    }
}
