//! Who may connect to a listener.

use std::net::IpAddr;

use crate::config::Listener;
use upcall_wire::address::Peer;

/// The most endpoints from one address, or /64, where the configuration says nothing. Loopback addresses and users of
/// this machine have no such cap by default: a machine is one source for all who work on it.
const DEFAULT_PER_SOURCE: usize = 256;

/// Whether the rules of a listener admit a peer; `groups` are its supplementary ones, asked for where they count.
pub(in crate::daemon) fn admits(rules: &Listener, peer: Peer, groups: impl FnOnce() -> Vec<u32>) -> bool {
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

fn admits_address(rules: &Listener, ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let in_any = |networks: &[ipnet::IpNet]| networks.iter().any(|network| network.contains(&ip));
    !in_any(&rules.deny) && (rules.allow.is_empty() || in_any(&rules.allow))
}

/// The most endpoints that the source of this peer may have on a listener.
pub(in crate::daemon) fn max_per_source(rules: &Listener, peer: Peer) -> Option<usize> {
    let default = match peer {
        Peer::Inet(address) if !address.ip().to_canonical().is_loopback() => Some(DEFAULT_PER_SOURCE),
        _ => None,
    };
    rules.max_per_source.or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(toml: &str) -> Listener {
        let text = format!("[[listener]]\ntransport = \"tcp\"\naddress = \"127.0.0.1:0\"\n{toml}");
        crate::config::parse("test", &text).unwrap().listeners.remove(0)
    }

    #[test]
    fn deny_wins_and_an_empty_allow_admits_all() {
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
    fn the_cap_of_a_source_spares_loopback_unless_it_is_configured() {
        let peer = |address: &str| Peer::inet(address.parse().unwrap());
        let (silent, said) = (listener(""), listener("max_per_source = 3"));
        assert_eq!(max_per_source(&silent, peer("127.0.0.1:1")), None);
        assert_eq!(max_per_source(&silent, peer("192.0.2.1:1")), Some(DEFAULT_PER_SOURCE));
        assert_eq!(max_per_source(&said, peer("127.0.0.1:1")), Some(3));
        assert_eq!(max_per_source(&said, peer("192.0.2.1:1")), Some(3));
    }
}
