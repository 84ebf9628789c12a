//! Text datagrams that are received while inputs are held. Their socket must still be read, because acknowledgements of
//! native peers arrive on it as well.

use std::collections::VecDeque;

use upcall_engine::{Dropped, ListenerNumber};

use crate::net::datagram::{Datagram, Sender};

/// At most this many datagrams, and this many bytes in total, are kept: about as much as the kernel would keep.
const MAX: usize = 256;
const MAX_BYTES: usize = 1024 * 1024;

/// A datagram that is handled once inputs are accepted again.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) listener: ListenerNumber,
    from: Sender,
    bytes: Vec<u8>,
}

impl Held {
    pub(super) fn datagram(&self) -> Datagram<'_> {
        Datagram { bytes: &self.bytes, truncated: false, looped: false, from: self.from.clone() }
    }
}

/// The held datagrams, oldest first.
#[derive(Debug, Default)]
pub(super) struct HeldDatagrams {
    datagrams: VecDeque<Held>,
    bytes: usize,
}

impl HeldDatagrams {
    pub(super) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Keeps a datagram. Fails with [`Dropped::Busy`] if there is no room.
    pub(super) fn push(&mut self, listener: ListenerNumber, from: Sender, data: &[u8]) -> Result<(), Dropped> {
        if self.datagrams.len() >= MAX || self.bytes + data.len() > MAX_BYTES {
            return Err(Dropped::Busy);
        }
        self.bytes += data.len();
        self.datagrams.push_back(Held { listener, from, bytes: data.to_vec() });
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<Held> {
        let next = self.datagrams.pop_front()?;
        self.bytes -= next.bytes.len();
        Some(next)
    }
}
