//! The part of each turn that concerns native clients.

use upcall_engine::{EndpointId, Time};

use crate::simulation::Simulation;

impl Simulation {
    /// Receives what has arrived by now, on both sides, and runs the clients.
    pub(crate) fn process_native(&mut self) {
        self.read_connections();
        self.read_datagrams();
        self.deliver_to_clients();
        for index in 0..self.native.clients.len() {
            self.run_client(index);
        }
        self.report_writable_sockets();
    }

    /// When native clients need attention next.
    pub(crate) fn native_due(&self) -> Option<Time> {
        let native = &self.native;
        let clients = native.clients.iter().filter(|client| !client.is_stalled(self.all_read));
        let due = clients.flat_map(|client| {
            let machine = client.machine.due().filter(|_| client.connected).map(|due| native.time(due));
            [machine, client.retry_at, client.welcome_deadline]
        });
        due.flatten().chain(native.up.next()).chain(native.down.next()).min()
    }

    /// The leases of native datagram endpoints as they must be.
    pub(crate) fn native_leases(&self) -> impl Iterator<Item = (EndpointId, Time)> {
        self.native.peers.values().map(|peer| (peer.endpoint, peer.lease))
    }

    /// The inputs of a parked endpoint may be handled again.
    pub(crate) fn unpark(&mut self, tag: u64) {
        if let Some(connection) = self.native.connections.get_mut(&tag) {
            connection.parked = false;
        }
    }

    /// Moves datagrams that have arrived into the sockets of clients, at most 100 each.
    fn deliver_to_clients(&mut self) {
        for (address, bytes) in self.native.down.take_arrived(self.now) {
            let client = self.native.clients.iter_mut().find(|client| client.connected && client.address == address);
            if let Some(client) = client.filter(|client| client.inbox.len() < 100) {
                client.inbox.push_back(bytes);
            }
        }
    }
}
