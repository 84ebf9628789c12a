//! Parses addresses. Every error message says what to write instead.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::error::AddressError;
use super::transport::Transport;
use super::{Address, DEFAULT_PORT, Host, MAX_UNIX_NAME, UnixName};

impl Address {
    /// Parses the part after the transport: `host:port`, `[v6]:port`, a path, or `@name`.
    ///
    /// # Errors
    ///
    /// Fails if the text has another form, or if a port is missing and there is no `default_port`.
    pub fn parse(transport: Transport, text: &str, default_port: Option<u16>) -> Result<Address, AddressError> {
        if transport.is_inet() {
            let (host, port) = parse_host_port(text, default_port)?;
            Ok(Address::Inet { transport, host, port })
        } else {
            Ok(Address::Unix { transport, name: parse_unix_name(text)? })
        }
    }

    /// Parses a URL such as `tcp://127.0.0.1:4141`.
    ///
    /// # Errors
    ///
    /// Fails if the text has another form, or if a port is missing and there is no `default_port`.
    pub fn parse_url(text: &str, default_port: Option<u16>) -> Result<Address, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            AddressError(format!("\"{text}\" is not a URL; write tcp://host:port, unix:///path or unix://@name"))
        })?;
        let transport: Transport = scheme.parse()?;
        let rest = if transport.is_inet() { rest.strip_suffix('/').unwrap_or(rest) } else { rest };
        Address::parse(transport, rest, default_port)
    }
}

fn parse_host_port(text: &str, default_port: Option<u16>) -> Result<(Host, u16), AddressError> {
    let (host, port) = match text.rsplit_once(':') {
        _ if text.starts_with('[') => {
            let (host, rest) = text[1..].split_once(']').ok_or_else(|| {
                AddressError(format!("\"{text}\" has no closing bracket; write [::1]:{DEFAULT_PORT}"))
            })?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => {
                    return Err(AddressError(format!(
                        "\"{rest}\" after the bracket is not a port; write [{host}]:{DEFAULT_PORT}"
                    )));
                }
            }
        }
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => {
            return Err(AddressError(format!("an IPv6 address needs brackets; write [{host}]:{port}")));
        }
        Some((host, _)) if host.contains(':') => {
            return Err(AddressError(format!("an IPv6 address needs brackets; write [{text}]:{DEFAULT_PORT}")));
        }
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let port = match (port, default_port) {
        (Some(digits), _) => digits
            .parse()
            .ok()
            .filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))
            .ok_or_else(|| AddressError(format!("\"{digits}\" is not a port; it is a number from 0 to 65535")))?,
        (None, Some(port)) => port,
        (None, None) => return Err(AddressError(format!("\"{text}\" has no port; write {text}:{DEFAULT_PORT}"))),
    };
    Ok((parse_host(host, text.starts_with('['))?, port))
}

fn parse_host(host: &str, bracketed: bool) -> Result<Host, AddressError> {
    match host.parse::<IpAddr>() {
        Ok(ip) if bracketed == ip.is_ipv6() => return Ok(Host::Ip(ip)),
        Ok(_) => return Err(AddressError(format!("brackets are for IPv6 addresses; write {host} without them"))),
        Err(_) if bracketed => return Err(AddressError(format!("\"{host}\" is not an IPv6 address"))),
        Err(_) => {}
    }
    // Digits and dots alone are a mistyped IPv4 address, which resolvers interpret in surprising ways (inet_aton(3)).
    let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && host.bytes().any(|b| b.is_ascii_alphabetic());
    match host {
        "" => Err(AddressError(format!("the host is missing; write {}:{DEFAULT_PORT}", Ipv4Addr::LOCALHOST))),
        "*" => Err(AddressError("\"*\" is not an address; write 0.0.0.0 for all of IPv4, or [::] for IPv6".into())),
        _ if is_name => Ok(Host::Name(host.to_ascii_lowercase())),
        _ => Err(AddressError(format!("\"{host}\" is neither an IP address nor a host name"))),
    }
}

fn parse_unix_name(text: &str) -> Result<UnixName, AddressError> {
    if text.is_empty() || text == "@" {
        return Err(AddressError("the name of the socket is missing; write an absolute path or @name".into()));
    }
    if text.contains('\0') {
        return Err(AddressError("the name of a socket cannot hold a NUL byte".into()));
    }
    let bytes = text.strip_prefix('@').unwrap_or(text).as_bytes();
    if bytes.len() > MAX_UNIX_NAME {
        return Err(AddressError(format!(
            "the name of the socket is {} bytes long; the limit is {MAX_UNIX_NAME} (unix(7))",
            bytes.len()
        )));
    }
    match text.as_bytes()[0] {
        b'@' => Ok(UnixName::Abstract(bytes.to_vec())),
        b'/' => Ok(UnixName::Path(PathBuf::from(OsStr::from_bytes(bytes)))),
        _ => Err(AddressError(format!(
            "\"{text}\" is a relative path; write an absolute one, or @name for an abstract socket"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_round_trip() {
        for url in [
            "tcp://127.0.0.1:4141",
            "tcp://[::1]:0",
            "udp://[::]:4141",
            "tcp://upcall-server:4141",
            "unix:///run/upcalld/upcalld.sock",
            "unix://@lab",
            "unix-datagram:///tmp/x",
        ] {
            assert_eq!(Address::parse_url(url, None).unwrap().to_string(), url);
        }
    }

    #[test]
    fn a_missing_port_becomes_the_default_if_there_is_one() {
        assert_eq!(Address::parse_url("tcp://[::1]", Some(7)).unwrap().to_string(), "tcp://[::1]:7");
        assert_eq!(Address::parse_url("tcp://lab/", Some(7)).unwrap().to_string(), "tcp://lab:7");
        let error = Address::parse(Transport::Tcp, "lab", None).unwrap_err();
        assert_eq!(error.to_string(), "\"lab\" has no port; write lab:4141");
    }

    #[test]
    fn the_error_says_what_to_write() {
        for (url, words) in [
            ("127.0.0.1:4141", "is not a URL"),
            ("tpc://h:1", "unknown transport \"tpc\""),
            ("tcp://::1:4141", "write [::1]:4141"),
            ("tcp://[::1:4141", "closing bracket"),
            ("tcp://[127.0.0.1]:1", "without them"),
            ("tcp://[lab]:1", "not an IPv6 address"),
            ("tcp://h:+1", "not a port"),
            ("tcp://h:65536", "not a port"),
            ("tcp://:1", "host is missing"),
            ("tcp://*:1", "0.0.0.0"),
            ("tcp://300.0.0.1:1", "neither"),
            ("tcp://a b:1", "neither"),
            ("unix://", "missing"),
            ("unix://run/x", "absolute"),
        ] {
            let error = Address::parse_url(url, None).unwrap_err().to_string();
            assert!(error.contains(words), "{url}: {error}");
        }
        assert!(Address::parse(Transport::Unix, &"/x".repeat(54), None).is_err());
    }
}
