//! Access: which clients may connect to a listener, which credentials a HELLO needs, and the rights and limits of a
//! registration.

use std::net::IpAddr;

use upcall_engine::{ExpectedProtocol, ListenerNumber, Registration, Terms};
use upcall_wire::address::Peer;
use upcall_wire::frame::{Code, Hello, Violation, kind};

use super::ActiveListener;
use crate::config::{ListenerConfig, ListenerRole};

/// The most endpoints from one address, or /64, if the configuration sets no limit. Loopback addresses and users of
/// this machine have no limit by default, because all programs on a machine count as one source.
const DEFAULT_PER_SOURCE: usize = 256;

/// Whether the rules of a listener admit a peer. `groups` returns the peer's supplementary groups, and is called only
/// if the rules name groups.
pub(in crate::daemon) fn admits(rules: &ListenerConfig, peer: Peer, groups: impl FnOnce() -> Vec<u32>) -> bool {
    match peer {
        Peer::Inet(address) => admits_address(rules, address.ip()),
        Peer::Unix(credentials) => {
            let open = rules.allow_users.is_empty() && rules.allow_groups.is_empty();
            let in_group = |group: &u32| rules.allow_groups.contains(group);
            open || rules.allow_users.contains(&credentials.uid)
                || in_group(&credentials.gid)
                || (!rules.allow_groups.is_empty() && groups().iter().any(in_group))
        }
    }
}

fn admits_address(rules: &ListenerConfig, ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let in_any = |networks: &[ipnet::IpNet]| networks.iter().any(|network| network.contains(&ip));
    !in_any(&rules.deny) && (rules.allow.is_empty() || in_any(&rules.allow))
}

/// The most endpoints that the source of this peer may have on a listener.
fn max_per_source(rules: &ListenerConfig, peer: Peer) -> Option<usize> {
    let default = match peer {
        Peer::Inet(address) if !address.ip().to_canonical().is_loopback() => Some(DEFAULT_PER_SOURCE),
        _ => None,
    };
    rules.max_per_source.or(default)
}

/// What a listener's role allows native endpoints to do.
pub(in crate::daemon) fn terms(rules: &ListenerConfig, peer: Peer) -> Terms {
    Terms {
        sends: rules.role != ListenerRole::Output,
        receives: rules.role != ListenerRole::Input,
        history: rules.history,
        max_sessions: max_per_source(rules, peer),
    }
}

/// Checks that a HELLO carries the token that its listener requires. The error is the answer to the HELLO.
pub(in crate::daemon) fn authenticate(rules: &ListenerConfig, hello: &Hello<'_>) -> Result<(), Violation> {
    let text = match (&rules.token, hello.token) {
        (None, _) => return Ok(()),
        (Some(token), Some(offered)) if token.is(offered) => return Ok(()),
        (Some(_), Some(_)) => "the token is wrong",
        (Some(_), None) => "this listener wants a token",
    };
    Err(Violation { code: Code::Unauthorized, about: kind::HELLO, reference: hello.nonce, text })
}

impl ActiveListener {
    /// The registration of a client of this listener.
    pub(in crate::daemon) fn registration(
        &self,
        number: ListenerNumber,
        protocol: ExpectedProtocol,
        tag: u64,
        peer: Peer,
    ) -> Registration {
        Registration {
            protocol,
            tag,
            listener: number,
            transport: self.socket.address().transport(),
            peer,
            receives: self.rules.role != ListenerRole::Input,
            max_per_listener: self.rules.max_endpoints,
            max_per_source: max_per_source(&self.rules, peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(toml: &str) -> ListenerConfig {
        let text = format!("[[listener]]\ntransport = \"tcp\"\naddress = \"127.0.0.1:0\"\n{toml}");
        crate::config::parse("test", &text).unwrap().listeners.remove(0)
    }

    #[test]
    fn deny_has_precedence_and_an_empty_allow_admits_all() {
        let rules = listener("allow = [\"192.0.2.0/24\", \"2001:db8::/32\"]\ndeny = [\"192.0.2.7\"]");
        for (ip, admitted) in [
            ("192.0.2.1", true),
            ("192.0.2.7", false),
            ("::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.7", false),
            ("198.51.100.1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(admits_address(&rules, ip.parse().unwrap()), admitted, "{ip}");
        }
        assert!(admits_address(&listener(""), "198.51.100.1".parse().unwrap()));
        assert!(!admits_address(&listener("deny = [\"0.0.0.0/0\"]"), "127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn loopback_has_no_limit_per_source_unless_it_is_configured() {
        let peer = |address: &str| Peer::inet(address.parse().unwrap());
        let (default, configured) = (listener(""), listener("max_per_source = 3"));
        assert_eq!(max_per_source(&default, peer("127.0.0.1:1")), None);
        assert_eq!(max_per_source(&default, peer("192.0.2.1:1")), Some(DEFAULT_PER_SOURCE));
        assert_eq!(max_per_source(&configured, peer("127.0.0.1:1")), Some(3));
        assert_eq!(max_per_source(&configured, peer("192.0.2.1:1")), Some(3));
    }
}
