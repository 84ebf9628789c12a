//! The rules: what an address may be, who has to be kept out, what collides, which sizes fit into which, and what text
//! cannot do. The same for files and for `--listen`; only the words of advice differ.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::mistake::{Mistake, Mistakes, Place, Report};
use super::read::Field;
use super::units::print_size;
use super::{Config, Listener, MAX_LISTENERS, Protocol};
use upcall_wire::address::{Address, Host, Transport, UnixName};

/// What is asked of a listener that speaks text only, and text cannot do: key and reason. A key that is read and then
/// ignored is a promise broken.
pub(super) fn beyond_text(listener: &Listener) -> Vec<(&'static str, String)> {
    let rules = [
        (listener.token.is_some(), "token_file", "carry a token"),
        (listener.history, "history", "ask for what was said before"),
    ];
    let reason = |key: &str, what: &str| {
        format!("\"{key}\" is for native clients, and protocol is \"text\", which cannot {what}")
    };
    let text = listener.protocol == Protocol::Text;
    rules.into_iter().filter(|rule| rule.0 && text).map(|(_, key, what)| (key, reason(key, what))).collect()
}

/// Parses the address of a listener.
pub(super) fn address(transport: Transport, text: &str) -> Result<Address, String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(format!("leave \"{scheme}://\" out, the transport has a key of its own; write \"{rest}\""));
    }
    bindable(Address::parse(transport, text, None).map_err(|error| error.to_string())?)
}

/// An address that can be listened on: an IP address, `localhost` being one, or the name of a Unix socket that is free or
/// belongs to a socket.
fn bindable(address: Address) -> Result<Address, String> {
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

/// Looks whether something stands at the path of a socket that is no socket. What cannot be seen now is left to the bind.
fn socket_path(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let what = match found.file_type() {
                kind if kind.is_dir() => "a directory",
                kind if kind.is_symlink() => "a symbolic link",
                _ => "no socket",
            };
            Err(format!(
                "\"{}\" exists and is {what}; the address has to be a free path, or a socket's",
                path.display()
            ))
        }
        _ => Ok(()),
    }
}

/// Whether strangers could come in though nobody said that they may.
pub(super) fn exposed(listener: &Listener) -> Option<String> {
    let admits = !listener.allow.is_empty() || listener.token.is_some() || listener.open;
    if admits || listener.address.is_local() {
        return None;
    }
    let place = listener.address.place();
    let but = if listener.deny.is_empty() { "" } else { " (\"deny\" alone lets every other stranger in)" };
    let what = "can be reached from other machines, and nothing says who may come in";
    Some(format!("{place} {what}{but}; write allow = [\"192.0.2.0/24\"] with your network, or open = true"))
}

/// Whether `dual_stack` is asked of an address that cannot do it.
pub(super) fn dual_stack(listener: &Listener) -> Option<String> {
    let place = listener.address.place();
    let possible = matches!(ip(&listener.address), None | Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
    let wrong = listener.dual_stack && !possible;
    wrong.then(|| format!("dual_stack = true needs the address \"[::]:port\", and this one is \"{place}\""))
}

/// Which of `others` a listener cannot be bound beside.
pub(super) fn collision(listener: &Listener, others: &[Listener]) -> Option<String> {
    let other = others.iter().find(|other| collide(listener, other))?;
    Some(format!("address collides with listener \"{}\", which is on {}", other.name, other.address))
}

fn collide(a: &Listener, b: &Listener) -> bool {
    match (&a.address, &b.address) {
        (Address::Inet { transport, port, .. }, Address::Inet { transport: other, port: taken, .. }) => {
            let (Some(ip), Some(its_ip)) = (ip(&a.address), ip(&b.address)) else { return false };
            let overlap = if ip.is_ipv4() == its_ip.is_ipv4() {
                ip == its_ip || ip.is_unspecified() || its_ip.is_unspecified()
            } else {
                // Of one IPv4 and one IPv6 address, the IPv6 one has to reach out.
                [(a, ip), (b, its_ip)].iter().any(|(listener, ip)| listener.dual_stack && ip.is_unspecified())
            };
            transport == other && port == taken && *port != 0 && overlap
        }
        // A path is one file whatever the type of its socket; abstract names are apart for each type.
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

/// The name of a listener that was given none: its transport and its number, from 1, or the next one that is free.
pub(super) fn default_name(address: &Address, index: usize, taken: impl Fn(&str) -> bool) -> String {
    let names = (index + 1..).map(|number| format!("{}-{number}", address.transport()));
    names.into_iter().find(|name| !taken(name)).unwrap_or_default()
}

/// Where the values are between which there are rules.
pub(super) struct Marks {
    pub(super) format: Field<()>,
    pub(super) max_message: Field<()>,
    pub(super) max_behind: Field<()>,
    pub(super) log_size: Field<()>,
}

/// The largest message, as text endpoints see it, has to fit into `max_behind`, and that twice into the log.
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
        report.rule(at, format!("with this format, a message of max_message ({message}) grows over {shown}"));
    }
    if let Some(at) = at(&[&marks.max_behind, &marks.log_size])
        && max_behind > config.log.size / 2
    {
        report.rule(at, format!("{shown} is more than half of size ({}) of [log]", print_size(config.log.size)));
    }
}

impl Config {
    /// Puts listeners from `--listen` in the place of those configured, if there are any. `open` says that strangers beyond
    /// this machine are welcome.
    pub fn with_listeners(mut self, addresses: Vec<Address>, open: bool) -> Result<Config, Mistakes> {
        if addresses.is_empty() {
            return Ok(self);
        }
        let mut mistakes = Vec::new();
        let mut listeners: Vec<Listener> = Vec::new();
        for (index, address) in addresses.into_iter().enumerate() {
            let place = Place::Option(format!("--listen {address}"));
            match listen(address, index, open, &listeners) {
                Ok(listener) => listeners.push(listener),
                Err(reasons) => mistakes.extend(reasons.iter().map(|reason| Mistake::new(place.clone(), reason))),
            }
        }
        self.listeners = listeners;
        Mistakes::some(mistakes).map_or(Ok(self), Err)
    }
}

fn listen(address: Address, index: usize, open: bool, others: &[Listener]) -> Result<Listener, Vec<String>> {
    let address = bindable(address).map_err(|reason| vec![reason])?;
    let mut listener = Listener::new(default_name(&address, index, |_| false), address);
    listener.open = open;
    let stranger = "can be reached from other machines; add --open to let everybody in, or write a configuration file";
    let too_many = format!("there can be {MAX_LISTENERS} listeners");
    let reasons: Vec<String> = [
        exposed(&listener).map(|_| stranger.to_string()),
        collision(&listener, others),
        (index >= MAX_LISTENERS).then_some(too_many),
    ]
    .into_iter()
    .flatten()
    .collect();
    if reasons.is_empty() { Ok(listener) } else { Err(reasons) }
}
