//! Text datagrams that were read while inputs wait: their socket has to be read for the acknowledgements among them.

use std::collections::VecDeque;

use crate::daemon::server::Server;
use crate::net::datagram::{Datagram, Sender};
use upcall_engine::{Dropped, Intake, ListenerNumber, Now};

/// How many may wait, and how many bytes they may have together: the kernel would keep about as much.
const MAX: usize = 256;
const MAX_BYTES: usize = 1024 * 1024;

/// Datagrams in the order in which they came.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Deferred {
    datagrams: VecDeque<(ListenerNumber, Sender, Vec<u8>)>,
    bytes: usize,
}

impl Deferred {
    pub(in crate::daemon) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    fn pop(&mut self) -> Option<(ListenerNumber, Sender, Vec<u8>)> {
        let next = self.datagrams.pop_front()?;
        self.bytes -= next.2.len();
        Some(next)
    }
}

impl Server {
    /// Keeps a datagram until inputs are taken again, if there is room.
    pub(in crate::daemon) fn defer(
        &mut self,
        number: ListenerNumber,
        from: Sender,
        data: &[u8],
    ) -> Result<(), Dropped> {
        let Deferred { datagrams, bytes } = &mut self.deferred;
        if datagrams.len() >= MAX || *bytes + data.len() > MAX_BYTES {
            return Err(Dropped::Busy);
        }
        *bytes += data.len();
        datagrams.push_back((number, from, data.to_vec()));
        Ok(())
    }

    /// Takes the datagrams that have waited, as long as inputs are taken.
    pub(in crate::daemon) fn receive_deferred(&mut self, now: Now) {
        while self.engine.intake() == Intake::Open
            && let Some((number, from, bytes)) = self.deferred.pop()
        {
            let datagram = Datagram { bytes: &bytes, truncated: false, looped: false, from };
            if let Err(dropped) = self.handle_datagram(now, number, datagram) {
                self.engine.counters_mut().count_dropped(dropped);
            }
        }
    }
}
