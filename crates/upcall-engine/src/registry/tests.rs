//! The registry: limits, and counts that follow the endpoints.

use proptest::prelude::*;
use upcall_wire::address::{Credentials, Transport};

use super::*;

fn tcp(address: &str) -> Peer {
    Peer::inet(address.parse().unwrap())
}

fn client(peer: Peer) -> Registration {
    Registration {
        protocol: ExpectedProtocol::Text,
        tag: 0,
        listener: 1,
        transport: Transport::Tcp,
        peer,
        receives: true,
        max_per_listener: Some(4),
        max_per_source: Some(2),
    }
}

#[test]
fn every_cap_refuses_by_its_own_name() {
    let mut registry = Registry::default();
    let mut insert = |peer, max| registry.insert(client(peer), None, max, 1, Time(0));
    let first = insert(tcp("192.0.2.1:1"), 9).unwrap();
    insert(tcp("192.0.2.1:2"), 9).unwrap();
    assert_eq!(insert(tcp("192.0.2.1:3"), 9), Err(Refusal::MaxPerSource));
    insert(tcp("[2001:db8::1]:1"), 9).unwrap();
    insert(tcp("[2001:db8::2]:1"), 9).unwrap();
    assert_eq!(insert(tcp("[2001:db8::3]:1"), 9), Err(Refusal::ListenerMaxEndpoints));
    assert_eq!(insert(tcp("192.0.2.9:1"), 4), Err(Refusal::MaxEndpoints));
    registry.remove(first);
    registry.insert(client(tcp("192.0.2.1:4")), None, 9, 1, Time(0)).unwrap();
    registry.check_invariants();
}

#[test]
fn users_and_networks_are_sources() {
    let user = |uid, pid| Peer::Unix(Credentials { pid, uid, gid: 0 });
    let mut registry = Registry::default();
    let mut insert = |peer| registry.insert(client(peer), None, 9, 1, Time(0));
    insert(user(1000, 1)).unwrap();
    insert(user(1000, 2)).unwrap();
    assert_eq!(insert(user(1000, 3)), Err(Refusal::MaxPerSource));
    insert(user(1001, 3)).unwrap();
    insert(tcp("[2001:db8:0:1::1]:1")).unwrap();
}

proptest! {
    /// Whichever endpoints register and leave, the counts are right, and numbers only rise.
    #[test]
    fn counts_follow_the_endpoints(steps in prop::collection::vec((any::<bool>(), 0u8..4, 0usize..8), 1..200)) {
        let mut registry = Registry::default();
        let mut present = Vec::new();
        let mut last = 0;
        for (leave, source, index) in steps {
            if leave && !present.is_empty() {
                let id = present.swap_remove(index % present.len());
                prop_assert!(registry.remove(id).is_some());
                prop_assert!(registry.remove(id).is_none());
            } else if let Ok(id) = registry.insert(client(tcp(&format!("192.0.2.{source}:1"))), None, 6, 1, Time(0)) {
                let number = registry.get(id).unwrap().number;
                prop_assert!(number > last);
                last = number;
                present.push(id);
            }
            registry.check_invariants();
            prop_assert_eq!(registry.len(), present.len());
            prop_assert!(registry.len() <= 4);
        }
    }
}
