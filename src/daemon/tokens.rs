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

/// What a poller event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Signals,
    LeaseAlarm,
    Alarm,
    Listener(ListenerNumber),
    /// The own sending socket of a datagram peer.
    Peer(PeerKey),
    Connection(ConnectionKey),
}

impl Token {
    pub(super) fn encode(self) -> u64 {
        match self {
            Token::Signals => SIGNALS,
            Token::LeaseAlarm => LEASE_ALARM,
            Token::Alarm => ALARM,
            Token::Listener(number) => number.into(),
            // No slot is reused 2³¹ times, so the highest bit of a key is never set, and the highest values are free.
            Token::Peer(key) => key.tag() | PEER,
            // Never below 2³², the range of the listeners: slotmap counts generations, from 1, in the upper half.
            Token::Connection(key) => key.tag(),
        }
    }

    pub(super) fn decode(token: u64) -> Token {
        match token {
            SIGNALS => Token::Signals,
            LEASE_ALARM => Token::LeaseAlarm,
            ALARM => Token::Alarm,
            _ if token & PEER != 0 => Token::Peer(PeerKey::from_tag(token & !PEER)),
            _ => match ListenerNumber::try_from(token) {
                Ok(number) => Token::Listener(number),
                Err(_) => Token::Connection(ConnectionKey::from_tag(token)),
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
        let mut tokens = vec![Token::Signals, Token::LeaseAlarm, Token::Alarm];
        tokens.extend([0, 1, ListenerNumber::MAX].map(Token::Listener));
        for _ in 0..3 {
            tokens.extend([Token::Connection(slots.insert(())), Token::Peer(peers.insert(()))]);
        }
        for token in tokens {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
