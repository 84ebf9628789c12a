//! The two ways in which a daemon ends: killed and replaced by a new one, or drained until no endpoint is left.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use upcall_engine::{Engine, Entropy};
use upcall_wire::reason::Reason;

use crate::network::DatagramNetwork;
use crate::simulation::{LOG, Simulation};

impl Simulation {
    /// Kills the daemon, checks what its text clients received, and starts a new one.
    pub(crate) fn restart(&mut self) {
        for number in self.clients.keys().copied().collect::<Vec<_>>() {
            if self.clients[&number].ended.is_none() {
                let id = self.clients[&number].id;
                self.engine.connection_lost(self.now(), id, Reason::Reset);
            }
        }
        self.handle_events();
        self.all_read = true;
        self.read_text();
        self.all_read = false;
        self.check_text().hash(&mut self.trace);
        self.clients.clear();
        self.past.push(self.engine.counters().clone());
        self.engine = Engine::new(self.settings.clone(), LOG, Entropy::seeded(self.rng.u64(..)));
        let conditions = self.network.conditions;
        let before = std::mem::replace(&mut self.network, DatagramNetwork::new(conditions));
        (self.network.lost, self.network.repeated, self.network.overtaken) =
            (before.lost, before.repeated, before.overtaken);
        let inputs = std::mem::take(&mut self.inputs);
        self.restart_native(inputs);
    }

    /// Ends the simulation: all clients read, all endpoints leave, and everything is checked. Returns the trace.
    pub(crate) fn finish(&mut self) -> u64 {
        self.end_turn();
        self.all_read = true;
        self.clients.values_mut().for_each(|client| client.capacity = 64 << 10);
        self.deliver_everything();
        let numbers: Vec<u64> = self.clients.keys().copied().collect();
        for number in numbers {
            if self.clients[&number].until.is_none() {
                let id = self.mark_leaving(number);
                self.engine.leave(self.now(), id, Reason::Shutdown);
            }
        }
        self.leave_native();
        for _ in 0..100_000 {
            if self.engine.is_empty() {
                break;
            }
            self.read_text();
            self.end_turn();
            if !self.native.is_quiet() {
                self.run(Duration::from_millis(20));
            }
        }
        let remaining: Vec<_> = self.engine.endpoints().collect();
        assert!(remaining.is_empty(), "endpoints that did not leave: {remaining:?}");
        self.read_text();
        self.check_text().hash(&mut self.trace);
        self.check_native().hash(&mut self.trace);
        self.trace.finish()
    }
}
