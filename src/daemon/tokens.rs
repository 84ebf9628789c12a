//! The poller's tokens, and the keys of connections and datagram peers that they contain.

use slotmap::{Key, KeyData};
use upcall_engine::ListenerNumber;

const SIGNALS: u64 = u64::MAX;
const LEASE_ALARM: u64 = u64::MAX - 1;
const ALARM: u64 = u64::MAX - 2;

/// The bit that marks the token of a datagram peer.
const PEER: u64 = 1 << 63;

slotmap::new_key_type! {
    /// A stream connection.
    pub(super) struct ConnectionKey;
}

slotmap::new_key_type! {
    /// A datagram peer.
    pub(super) struct PeerKey;
}

/// The subject of a poller event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventToken {
    Signals,
    LeaseAlarm,
    Alarm,
    Listener(ListenerNumber),
    /// The own sending socket of a datagram peer.
    Peer(PeerKey),
    Connection(ConnectionKey),
}

impl EventToken {
    pub(super) fn encode(self) -> u64 {
        match self {
            EventToken::Signals => SIGNALS,
            EventToken::LeaseAlarm => LEASE_ALARM,
            EventToken::Alarm => ALARM,
            EventToken::Listener(number) => number.into(),
            // No slot is reused 2³¹ times, so the highest bit of a key is never set, and the highest values are free.
            EventToken::Peer(key) => key.tag() | PEER,
            // Never below 2³², the range of the listeners: slotmap counts generations, from 1, in the upper half.
            EventToken::Connection(key) => key.tag(),
        }
    }

    pub(super) fn decode(token: u64) -> EventToken {
        match token {
            SIGNALS => EventToken::Signals,
            LEASE_ALARM => EventToken::LeaseAlarm,
            ALARM => EventToken::Alarm,
            _ if token & PEER != 0 => EventToken::Peer(PeerKey::from_tag(token & !PEER)),
            _ => match ListenerNumber::try_from(token) {
                Ok(number) => EventToken::Listener(number),
                Err(_) => EventToken::Connection(ConnectionKey::from_tag(token)),
            },
        }
    }
}

impl ConnectionKey {
    /// The tag under which the engine knows its endpoint.
    pub(super) fn tag(self) -> u64 {
        self.data().as_ffi()
    }

    pub(super) fn from_tag(tag: u64) -> ConnectionKey {
        KeyData::from_ffi(tag).into()
    }
}

impl PeerKey {
    /// The tag under which the engine knows its endpoint.
    pub(super) fn tag(self) -> u64 {
        self.data().as_ffi()
    }

    pub(super) fn from_tag(tag: u64) -> PeerKey {
        KeyData::from_ffi(tag).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_decoded_as_what_it_was() {
        let mut slots = slotmap::SlotMap::<ConnectionKey, ()>::with_key();
        let mut peers = slotmap::SlotMap::<PeerKey, ()>::with_key();
        let mut tokens = vec![EventToken::Signals, EventToken::LeaseAlarm, EventToken::Alarm];
        tokens.extend([0, 1, ListenerNumber::MAX].map(EventToken::Listener));
        for _ in 0..3 {
            tokens.extend([EventToken::Connection(slots.insert(())), EventToken::Peer(peers.insert(()))]);
        }
        for token in tokens {
            assert_eq!(EventToken::decode(token.encode()), token);
        }
    }
}
