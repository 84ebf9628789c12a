//! The end: the network heals, everybody reads, and everything that is due has to come in time.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::client::{Client, Fate};
use crate::network::Weather;
use crate::world::World;
use upcall_wire::reason::Reason;

/// Within so long everything is there: a timeout may have grown to a minute.
const TIME: Duration = Duration::from_secs(180);

impl World {
    /// Nothing more goes wrong: waits until everything is there.
    pub(crate) fn natives_settle(&mut self) {
        let calm = Weather { loss: 0, repeats: 0, delay: Duration::from_millis(2) };
        (self.natives.up.weather, self.natives.down.weather) = (calm, calm);
        self.natives.lines.values_mut().for_each(|line| line.capacity = usize::MAX);
        for client in &mut self.natives.clients {
            client.stalled = false;
        }
        let (until, sent) = (self.now + TIME, self.natives.down.sent);
        let (records, clients) = (self.inputs.len() as u64, self.natives.clients.len() as u64);
        while let Some(trouble) = self.is_unsettled() {
            assert!(self.now < until, "{trouble}");
            self.read_text();
            self.run(Duration::from_millis(500));
            self.end_turn();
        }
        let sent = self.natives.down.sent - sent;
        assert!(sent <= clients * (2 * records + 500), "{sent} datagrams to {clients} clients, {records} records");
    }

    /// What is not as it has to be in the end.
    fn is_unsettled(&self) -> Option<String> {
        let waits = |client: &Client| {
            let machine = &client.machine;
            let what = match () {
                () if !machine.is_ready() => "is not registered",
                () if !machine.is_flushed() => "waits for receipts",
                () if !client.requests.is_empty() => "waits for filters",
                () if client.ledger.check(&self.natives.truth, &self.inputs).is_some() => "misses upcalls",
                () => return None,
            };
            let missing = client.ledger.check(&self.natives.truth, &self.inputs);
            let next = self.engine.next_sequence();
            let who = client.ledger.present();
            Some(format!("{what}: {who:?}, misses {missing:?} of {next}, line {:?}, {machine:?}", client.line))
        };
        self.natives.clients.iter().filter(|client| client.over.is_none()).find_map(waits)
    }

    /// The daemon lets all native endpoints leave.
    pub(crate) fn natives_leave(&mut self) {
        self.natives.closing = true;
        let natives = &self.natives;
        let lines = natives.lines.values().filter_map(|line| line.endpoint);
        let all: Vec<_> = lines.chain(natives.peers.values().map(|peer| peer.endpoint)).collect();
        for id in all {
            self.engine.leave(self.now(), id, Reason::Shutdown);
        }
    }

    /// Received and announced make what was due; every input was appended as often as its sender was told.
    pub(crate) fn check_natives(&self) -> u64 {
        let mut trace = DefaultHasher::new();
        let mut appended: HashMap<&[u8], u32> = HashMap::new();
        for input in self.natives.truth.all(&self.inputs).filter(|input| input.data.starts_with(b"n")) {
            if input.data.contains(&b':') {
                *appended.entry(&input.data).or_default() += 1;
            }
        }
        for client in &self.natives.clients {
            client.ledger.check(&self.natives.truth, &self.inputs);
            for sent in client.old.iter().chain(client.sent.values()) {
                let times = appended.get(&sent.payload[..]).copied().unwrap_or(0);
                let right = match sent.fate {
                    Fate::Taken => times == 1,
                    Fate::Refused => times == 0,
                    Fate::Open | Fate::Unknown => times <= 1,
                };
                assert!(right, "{:?}, and appended {times} times", sent.fate);
            }
            client.ledger.hash(&mut trace);
            (client.sent.len(), client.old.len()).hash(&mut trace);
        }
        (self.natives.up.sent, self.natives.down.sent, self.now).hash(&mut trace);
        trace.finish()
    }
}
