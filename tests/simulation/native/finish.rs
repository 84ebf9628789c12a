//! The end of a simulation for native clients: the network recovers, all clients read, and everything that is due must
//! arrive in time.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use upcall_wire::reason::Reason;

use super::client::{NativeClient, SendOutcome};
use crate::network::NetworkConditions;
use crate::simulation::Simulation;

/// How long it may take until everything has arrived: a retransmission timeout may have grown to a minute.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(180);

impl Simulation {
    /// Runs without any faults until everything has arrived.
    pub(crate) fn deliver_everything(&mut self) {
        let reliable = NetworkConditions { loss: 0, repeats: 0, delay: Duration::from_millis(2) };
        (self.native.up.conditions, self.native.down.conditions) = (reliable, reliable);
        self.native.connections.values_mut().for_each(|connection| connection.capacity = usize::MAX);
        for client in &mut self.native.clients {
            client.stalled = false;
        }
        let (until, sent) = (self.now + DELIVERY_TIMEOUT, self.native.down.sent);
        let (records, clients) = (self.inputs.len() as u64, self.native.clients.len() as u64);
        while let Some(undelivered) = self.describe_undelivered() {
            assert!(self.now < until, "{undelivered}");
            self.read_text();
            self.run(Duration::from_millis(500));
            self.end_turn();
        }
        let sent = self.native.down.sent - sent;
        assert!(sent <= clients * (2 * records + 500), "{sent} datagrams to {clients} clients, {records} records");
    }

    /// Describes a client whose state is not yet what it must be at the end.
    fn describe_undelivered(&self) -> Option<String> {
        let describe = |client: &NativeClient| {
            let machine = &client.machine;
            let what = match () {
                () if !machine.is_ready() => "is not registered",
                () if !machine.is_flushed() => "has no receipts yet",
                () if !client.requests.is_empty() => "has no answer about filters yet",
                () if client.record.check(&self.native.reference, &self.inputs).is_some() => "lacks upcalls",
                () => return None,
            };
            let missing = client.record.check(&self.native.reference, &self.inputs);
            let next = self.engine.next_sequence();
            let session = client.record.current();
            Some(format!(
                "{what}: {session:?}, lacks {missing:?} of {next}, connection {:?}, {machine:?}",
                client.connection
            ))
        };
        self.native.clients.iter().filter(|client| client.ended.is_none()).find_map(describe)
    }

    /// Ends all native endpoints, as a drain does.
    pub(crate) fn leave_native(&mut self) {
        self.native.closing = true;
        let native = &self.native;
        let connections = native.connections.values().filter_map(|connection| connection.endpoint);
        let all: Vec<_> = connections.chain(native.peers.values().map(|peer| peer.endpoint)).collect();
        for id in all {
            self.engine.leave(self.now(), id, Reason::Shutdown);
        }
    }

    /// Checks that upcalls and gaps cover what was due, and that each input was appended as often as was reported to
    /// its sender. Returns a trace.
    pub(crate) fn check_native(&self) -> u64 {
        let mut trace = DefaultHasher::new();
        let mut appended: HashMap<&[u8], u32> = HashMap::new();
        for input in self.native.reference.all_inputs(&self.inputs).filter(|input| input.data.starts_with(b"n")) {
            if input.data.contains(&b':') {
                *appended.entry(&input.data).or_default() += 1;
            }
        }
        for client in &self.native.clients {
            client.record.check(&self.native.reference, &self.inputs);
            for sent in client.previous_sent.iter().chain(client.sent.values()) {
                let times = appended.get(&sent.payload[..]).copied().unwrap_or(0);
                let expected = match sent.outcome {
                    SendOutcome::Accepted => times == 1,
                    SendOutcome::Refused => times == 0,
                    SendOutcome::Pending | SendOutcome::Unknown => times <= 1,
                };
                assert!(expected, "{:?}, but appended {times} times", sent.outcome);
            }
            client.record.hash(&mut trace);
            (client.sent.len(), client.previous_sent.len()).hash(&mut trace);
        }
        (self.native.up.sent, self.native.down.sent, self.now).hash(&mut trace);
        trace.finish()
    }
}
