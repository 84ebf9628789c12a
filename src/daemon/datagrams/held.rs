//! Text datagrams that were received while inputs wait: their socket has to be read for the acknowledgements among
//! them.

use std::collections::VecDeque;

use crate::net::datagram::{Datagram, Sender};
use upcall_engine::{Dropped, ListenerNumber};

/// At most this many are kept, and this many bytes of them together: the kernel would keep about as much.
const MAX: usize = 256;
const MAX_BYTES: usize = 1024 * 1024;

/// A datagram that is handled when inputs are taken again.
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

/// Datagrams in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct HeldDatagrams {
    datagrams: VecDeque<Held>,
    bytes: usize,
}

impl HeldDatagrams {
    pub(super) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Keeps a datagram, if there is room.
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
