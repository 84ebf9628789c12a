//! The program around the state machine of a native client: it connects, reads, writes and handles events.

use std::time::Duration;

use upcall_client::machine::{DisconnectReason, Event};
use upcall_wire::frame::Code;

use super::client::SendOutcome;
use super::connection::ConnectionEnd;
use crate::simulation::Simulation;

/// How long a client waits for WELCOME before it connects again.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

impl Simulation {
    /// Does the work of a client that is due, unless it is stalled.
    pub(crate) fn run_client(&mut self, index: usize) {
        let client = &mut self.native.clients[index];
        if client.is_stalled(self.all_read) {
            return;
        }
        if client.retry_at.is_some_and(|at| at <= self.now) {
            client.retry_at = None;
            if !self.native.closing {
                self.connect(index);
            }
        }
        if self.native.clients[index].welcome_deadline.is_some_and(|by| by <= self.now) {
            self.close_connection(index, ConnectionEnd::Eof);
        }
        if !self.native.clients[index].connected {
            return self.handle_client_events(index);
        }
        let now = self.native.instant(self.now);
        if !self.receive(index) {
            self.close_connection(index, ConnectionEnd::Eof);
        }
        self.handle_client_events(index);
        self.native.clients[index].machine.expire(now);
        self.transmit(index);
        self.handle_client_events(index);
    }

    fn connect(&mut self, index: usize) {
        let now = self.native.instant(self.now);
        let connection = self.native.clients[index].is_stream().then(|| self.accept());
        let client = &mut self.native.clients[index];
        client.connection = connection;
        client.unwritten.clear();
        client.inbox.clear();
        client.connected = true;
        client.welcome_deadline = Some(self.now + WELCOME_TIMEOUT);
        client.machine.connect(now);
    }

    /// Reads what has arrived. Returns whether the connection is still open.
    fn receive(&mut self, index: usize) -> bool {
        let now = self.native.instant(self.now);
        let client = &mut self.native.clients[index];
        let everything = client.prompt || self.all_read;
        let Some(tag) = client.connection else {
            while let Some(datagram) = client.inbox.pop_front() {
                client.machine.receive(now, &datagram);
            }
            return true;
        };
        let Some(connection) = self.native.connections.get_mut(&tag) else { return false };
        let count = if everything { connection.down.len() } else { self.rng.usize(..=connection.down.len()) };
        let bytes: Vec<u8> = connection.down.drain(..count).collect();
        client.machine.receive(now, &bytes);
        connection.endpoint.is_some() || !connection.down.is_empty()
    }

    fn transmit(&mut self, index: usize) {
        let now = self.native.instant(self.now);
        let native = &mut self.native;
        let client = &mut native.clients[index];
        let Some(tag) = client.connection else {
            let mut datagram = Vec::new();
            while client.machine.transmit(now, &mut datagram) {
                native.up.send(&mut self.rng, self.now, client.address, &datagram);
                datagram.clear();
            }
            return;
        };
        let Some(connection) = native.connections.get_mut(&tag) else { return };
        if client.unwritten.is_empty() {
            while client.unwritten.len() < 10_000 && client.machine.transmit(now, &mut client.unwritten) {}
        }
        let room = 20_000usize.saturating_sub(connection.up.len()).min(client.unwritten.len());
        let count = if self.all_read { room } else { self.rng.usize(..=room) };
        connection.up.extend(client.unwritten.drain(..count));
    }

    /// Ends the connection of a client and reports that to its state machine.
    pub(crate) fn close_connection(&mut self, index: usize, how: ConnectionEnd) {
        let client = &mut self.native.clients[index];
        client.machine.disconnected();
        self.drop_connection(index, how);
        self.handle_client_events(index);
    }

    /// Ends the client's side of the connection.
    pub(crate) fn drop_connection(&mut self, index: usize, how: ConnectionEnd) {
        let client = &mut self.native.clients[index];
        client.connected = false;
        client.welcome_deadline = None;
        if let Some(connection) = client.connection.take().and_then(|tag| self.native.connections.get_mut(&tag)) {
            connection.open = false;
            connection.end = Some(how);
            connection.capacity = if how == ConnectionEnd::Silent { connection.capacity } else { usize::MAX };
            connection.down.clear();
        }
    }

    /// Handles the events of a state machine.
    pub(crate) fn handle_client_events(&mut self, index: usize) {
        while let Some(event) = self.native.clients[index].machine.event() {
            self.handle_client_event(index, event);
        }
    }

    fn handle_client_event(&mut self, index: usize, event: Event) {
        let native = &mut self.native;
        let (client, reference, counts) = (&mut native.clients[index], &native.reference, &mut native.counts);
        match event {
            Event::Welcomed { resumed, start, next, .. } => {
                assert!(start <= next);
                let ticket = client.machine.session().unwrap();
                client.record.welcomed(reference.find(ticket.log), ticket.id, start, resumed);
                client.welcome_deadline = None;
                counts.sessions_lost += u64::from(!resumed && client.settings.resume.is_some());
            }
            Event::Upcall(upcall) => {
                let (log, _) = client.record.current().unwrap();
                let input = &reference.inputs(log, &self.inputs)[upcall.sequence as usize - 1];
                assert_eq!((&upcall.topic, upcall.source), (&input.topic, input.source));
                assert!(upcall.payload == input.data, "another payload for {}", upcall.sequence);
                client.record.upcall(upcall.sequence);
                counts.upcalls += 1;
            }
            Event::Gap { first, last, .. } => {
                client.record.gap(first, last);
                counts.gaps += 1;
            }
            Event::Receipt { input: ticket, sequence, repeat, .. } => {
                let (log, number) = client.record.current().unwrap();
                let input = &reference.inputs(log, &self.inputs)[sequence as usize - 1];
                let sent = client.sent.get_mut(&ticket).unwrap();
                assert_eq!((&input.topic, input.source), (&sent.topic, number));
                assert!(input.data == sent.payload, "the receipt names another input");
                assert_eq!(std::mem::replace(&mut sent.outcome, SendOutcome::Accepted), SendOutcome::Pending);
                counts.receipts += 1;
                counts.repeats += u64::from(repeat);
            }
            Event::Unknown { input: ticket } => {
                client.sent.get_mut(&ticket).unwrap().outcome = SendOutcome::Unknown;
                counts.unknown += 1;
            }
            Event::Rejected { input: ticket, .. } => {
                client.sent.get_mut(&ticket).unwrap().outcome = SendOutcome::Refused
            }
            Event::Subscribed { request, from, everything, filters } => {
                let (log, number) = client.record.current().unwrap();
                let filters = (!everything).then(|| filters.into_iter().collect());
                let agrees = reference.has_filters(log, number, from, &filters);
                assert!(agrees, "#{number}: {filters:?} from {from} on are not its filters");
                assert!(client.requests.remove(&request));
                counts.subscribed += 1;
            }
            Event::NotSubscribed { request, code, .. } => {
                assert_eq!(code, Code::NotPermitted);
                assert!(client.requests.remove(&request));
            }
            Event::Pong { .. } => {}
            Event::DaemonError { code, text } => panic!("{code:?}: {text}"),
            Event::Disconnected(cause) => self.connection_down(index, cause),
        }
    }

    fn connection_down(&mut self, index: usize, cause: DisconnectReason) {
        // It was refused; or its HELLO took more than a second, and the daemon treated it as a text client.
        let refused =
            matches!(&cause, DisconnectReason::NotNative(text) if text.starts_with(b"upcalld: ") || text[0] == b'<');
        assert!(
            refused || !matches!(cause, DisconnectReason::NotNative(_) | DisconnectReason::Protocol(_)),
            "{cause:?}"
        );
        let how = if self.rng.bool() { ConnectionEnd::Eof } else { ConnectionEnd::Reset };
        self.drop_connection(index, how);
        let pause = Duration::from_millis(self.rng.u64(..1_000));
        let client = &mut self.native.clients[index];
        match client.machine.is_over() || client.replaced {
            true => client.ended = Some(cause),
            false => client.retry_at = Some(self.now + pause),
        }
    }
}
