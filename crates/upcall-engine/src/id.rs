//! The names with which the modules refer to endpoints without knowing what an endpoint is.

use std::hash::Hasher;
use std::net::IpAddr;

use upcall_wire::address::Peer;

slotmap::new_key_type! {
    /// An endpoint's place in the registry. Never valid again once the endpoint has left.
    pub struct EndpointId;
}

/// A listener, as far as the registry counts by it. The driver assigns the numbers.
pub type ListenerNumber = u32;

/// What a limit per source counts together: an IPv4 address, an IPv6 /64 network, or a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LimitSource {
    Address(IpAddr),
    User(u32),
}

impl LimitSource {
    pub(crate) fn of(peer: Peer) -> LimitSource {
        match peer {
            Peer::Unix(credentials) => LimitSource::User(credentials.uid),
            Peer::Inet(address) => match address.ip().to_canonical() {
                // A provider commonly assigns a whole /64 to one customer (RFC 6177).
                IpAddr::V6(ip) => LimitSource::Address(IpAddr::V6((ip.to_bits() & !(u128::from(u64::MAX))).into())),
                ip => LimitSource::Address(ip),
            },
        }
    }
}

/// Hashes values that the daemon itself chose: an endpoint's place in the registry, or the key of a datagram endpoint.
/// No client can choose them, so the hash needs no secret. The multiplier is the golden ratio (Fibonacci hashing).
#[derive(Debug, Default)]
pub(crate) struct OwnIdHasher(u64);

impl Hasher for OwnIdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, place: u32) {
        self.write_u64(place.into());
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = (self.0.rotate_left(8) ^ key).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
