//! Single values: the TOML type and the meaning of each kind. Asks the system only about users and groups.

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use nix::unistd::{Group, User};
use toml::de::DeValue;

use super::units;
use super::words::Word;

/// A kind of value.
pub(super) struct ValueKind<T> {
    /// The accepted values, in words.
    pub(super) takes: &'static str,
    /// How it is written, as an example.
    pub(super) example: Cow<'static, str>,
    /// Reads a value. Returns its meaning, or the reason why it is wrong; `None` if its TOML type is wrong.
    pub(super) read: fn(&DeValue<'_>) -> Option<Result<T, String>>,
}

const fn kind<T>(
    takes: &'static str,
    example: &'static str,
    read: fn(&DeValue<'_>) -> Option<Result<T, String>>,
) -> ValueKind<T> {
    ValueKind { takes, example: Cow::Borrowed(example), read }
}

pub(super) const BOOLEAN: ValueKind<bool> = kind("true or false", "true", |value| value.as_bool().map(Ok));

pub(super) const NAME: ValueKind<String> = kind("a string", "\"lab\"", |value| {
    let valid = |name: &str| {
        (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
    };
    value.as_str().map(|name| match valid(name) {
        true => Ok(name.into()),
        false => Err(format!("name \"{name}\" is not 1 to 64 of the characters A-Z, a-z, 0-9, _, . and -")),
    })
});

pub(super) const ADDRESS: ValueKind<String> =
    kind("a string", "\"127.0.0.1:4141\"", |value| value.as_str().map(|text| Ok(text.into())));

pub(super) const FORMAT: ValueKind<String> =
    kind("a string", "\"Upcall event: Processing {data}\"", |value| value.as_str().map(|text| Ok(text.into())));

pub(super) const TOKEN_FILE: ValueKind<PathBuf> = kind("a path in a string", "\"/etc/upcalld/token\"", |value| {
    value.as_str().map(|text| {
        let path = PathBuf::from(text);
        if path.is_absolute() && !text.contains('\0') {
            Ok(path)
        } else {
            Err(format!("token_file \"{text}\" is not an absolute path"))
        }
    })
});

pub(super) const COUNT: ValueKind<usize> = kind("a whole number", "1000", |value| {
    integer(value).map(|number| match number {
        Some(number @ 1..=1_000_000) => Ok(number as usize),
        _ => Err("the number has to be from 1 to 1000000".into()),
    })
});

pub(super) const SIZE: ValueKind<usize> = kind("a size", "\"16MiB\"", |value| {
    let bytes = match value {
        DeValue::String(text) => units::parse_size(text),
        DeValue::Integer(number) => {
            Err(format!("{number} has no unit; write \"{number}KiB\", or \"{number}B\" for bytes"))
        }
        _ => return None,
    };
    Some(bytes.and_then(|bytes| match usize::try_from(bytes) {
        Ok(0) => Err("a size of zero leaves no room for anything".into()),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err("the size is more than this machine can address".into()),
    }))
});

pub(super) const DURATION: ValueKind<Duration> = kind("a duration", "\"30s\"", duration);

pub(super) const LIFETIME: ValueKind<Duration> = kind("a duration", "\"2min\"", |value| {
    duration(value).map(|read| match read {
        Ok(Duration::ZERO) => Err("a duration of zero is over before it begins; write for example \"2min\"".into()),
        other => other,
    })
});

/// A duration; `None` for `"forever"`.
pub(super) const DURATION_OR_FOREVER: ValueKind<Option<Duration>> =
    kind("a duration or \"forever\"", "\"30s\"", |value| {
        if value.as_str() == Some("forever") { Some(Ok(None)) } else { duration(value).map(|read| read.map(Some)) }
    });

pub(super) const MODE: ValueKind<u32> =
    kind("octal digits in a string", "\"0660\"", |value| value.as_str().map(units::parse_mode));

pub(super) const NETWORK: ValueKind<IpNet> = kind("networks", "\"192.0.2.0/24\"", |value| value.as_str().map(network));

pub(super) const USER: ValueKind<u32> = kind("user names or numbers", "\"root\"", |value| {
    id(value, "user", |name| User::from_name(name).map(|user| user.map(|user| user.uid.as_raw())))
});

pub(super) const GROUP: ValueKind<u32> = kind("group names or numbers", "\"upcalld\"", |value| {
    id(value, "group", |name| Group::from_name(name).map(|group| group.map(|group| group.gid.as_raw())))
});

/// One word of a fixed choice.
pub(super) fn word<T: Word>() -> ValueKind<T> {
    let example = Cow::Owned(format!("\"{}\"", T::ALL[0].0));
    ValueKind { takes: "a string", example, read: |value| value.as_str().map(T::from_word) }
}

/// An integer: `None` if the value is of another type, `Some(None)` if it is negative or too large.
fn integer(value: &DeValue<'_>) -> Option<Option<u64>> {
    let integer = value.as_integer()?;
    Some(u64::from_str_radix(integer.as_str(), integer.radix()).ok())
}

fn duration(value: &DeValue<'_>) -> Option<Result<Duration, String>> {
    match value {
        DeValue::String(text) => Some(units::parse_duration(text)),
        DeValue::Integer(number) => Some(Err(format!("{number} has no unit; write \"{number}s\""))),
        _ => None,
    }
}

/// A network. A bare address is the network of that address alone. An IPv4-mapped IPv6 network (RFC 4291, 2.5.5.2)
/// becomes an IPv4 one, as peers' addresses do.
fn network(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = parsed.map_err(|_| format!("\"{text}\" is not a network, such as \"192.0.2.0/24\""))?;
    if network.addr() != network.network() {
        return Err(format!("\"{text}\" has bits set behind its prefix; write \"{}\"", network.trunc()));
    }
    match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => {
            let v4 = v6.addr().to_ipv4_mapped().map(|v4| Ipv4Net::new(v4, v6.prefix_len() - 96));
            Ok(v4.and_then(Result::ok).map_or(network, IpNet::V4))
        }
        _ => Ok(network),
    }
}

/// A user or group, by number or by name.
fn id(value: &DeValue<'_>, what: &str, look_up: fn(&str) -> nix::Result<Option<u32>>) -> Option<Result<u32, String>> {
    // To the kernel, the largest number means "no id" (chown(2)).
    let in_range = |number: Option<u64>| {
        let id = number.and_then(|number| u32::try_from(number).ok()).filter(|id| *id != u32::MAX);
        id.ok_or_else(|| format!("the number of a {what} is from 0 to 4294967294"))
    };
    match value {
        DeValue::Integer(_) => integer(value).map(in_range),
        DeValue::String(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(in_range(text.parse().ok()))
        }
        DeValue::String(name) => Some(match look_up(name) {
            Ok(Some(id)) => Ok(id),
            Ok(None) => Err(format!("there is no {what} \"{name}\" on this machine")),
            Err(errno) => Err(format!("cannot look up {what} \"{name}\": {}", errno.desc())),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::types::loopback_networks;

    #[test]
    fn networks() {
        for (text, printed) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("::1", "::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), printed, "{text}");
        }
        let reason = network("192.0.2.7/24").unwrap_err();
        assert_eq!(reason, "\"192.0.2.7/24\" has bits set behind its prefix; write \"192.0.2.0/24\"");
        assert!(network("192.0.2.0/33").is_err());
        assert!(network("lab").is_err());
        assert_eq!(loopback_networks().len(), 2);
    }

    #[test]
    fn users_and_groups() {
        let read = |text: &str| (USER.read)(DeValue::parse(text).unwrap().get_ref()).unwrap();
        assert_eq!(read("\"root\""), Ok(0));
        assert_eq!(read("1000"), Ok(1000));
        assert_eq!(read("\"1000\""), Ok(1000));
        for wrong in ["\"no-such-user\"", "-1", "4294967295", "\"4294967295\"", "\"99999999999999999999999\"", "\"\""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!((GROUP.read)(&DeValue::Boolean(true)).is_none());
    }
}
