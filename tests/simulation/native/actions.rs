//! What native clients do, and what happens to them, at random.

use upcall_client::machine::{Carrier, DisconnectReason, Settings};
use upcall_wire::frame::Role;

use super::client::{NativeClient, SendOutcome, SentInput};
use super::connection::ConnectionEnd;
use crate::simulation::Simulation;

const TOPICS: [&str; 5] = ["", "a", "ab", "b", "c/d"];
const FILTERS: [&str; 7] = ["a", "a*", "b", "c/*", "*", "none", "ab*"];

impl Simulation {
    /// Does something random with a native client.
    pub(crate) fn step_native(&mut self) {
        let count = self.native.clients.len();
        if count < 2 || (count < 7 && self.rng.u8(..8) == 0) {
            return self.new_client();
        }
        let index = self.rng.usize(..count);
        match self.rng.u8(..32) {
            0..=12 => self.send_native(index),
            13..=16 => self.change_filters(index),
            17..=18 => {
                let stalled = self.rng.bool();
                self.native.clients[index].stalled = stalled;
            }
            19..=21 => self.break_connection(index),
            22..=23 => self.crash(index, false),
            24 => self.crash(index, true),
            25..=26 => {
                let client = &mut self.native.clients[index];
                client.saved = client.machine.session().map(|ticket| (ticket, client.record.clone()));
            }
            27 if self.rng.u8(..4) == 0 => self.native.clients[index].machine.leave(),
            28 => {
                // Its address changes without its knowledge, as when it is behind a NAT gateway.
                self.native.clients[index].address = self.native.next_address;
                self.native.next_address += 1;
            }
            29 if self.native.clients[index].connected => drop(self.native.clients[index].machine.ping()),
            _ => self.process_native(),
        }
        self.run_client(index);
    }

    fn new_client(&mut self) {
        let carrier = if self.rng.bool() { Carrier::Stream } else { Carrier::Datagrams(2_500) };
        let roles = [Role::Both, Role::Both, Role::Both, Role::Both, Role::SendOnly, Role::ReceiveOnly];
        let since = self.rng.u8(..4) == 0 && (self.native.history || self.rng.u8(..8) == 0);
        let next = self.engine.next_sequence();
        let settings = Settings {
            role: roles[self.rng.usize(..roles.len())],
            filters: self.some_filters(),
            since: since.then(|| self.rng.u64(..=next)),
            ..Settings::new(carrier)
        };
        let mut client = self.new_program(settings);
        client.prompt = self.rng.u8(..3) == 0;
        self.native.clients.push(client);
    }

    fn new_program(&mut self, settings: Settings) -> NativeClient {
        let address = self.native.next_address;
        self.native.next_address += 1;
        NativeClient::new(settings, self.rng.u64(..), address, self.now)
    }

    fn some_filters(&mut self) -> Vec<String> {
        let count = [0, 0, 1, 2][self.rng.usize(..4)];
        self.rng.choose_multiple(FILTERS, count).into_iter().map(str::to_owned).collect()
    }

    fn send_native(&mut self, index: usize) {
        let largest = [40, 40, 400, 2_900, 30_000][self.rng.usize(..5)];
        for _ in 0..self.rng.usize(1..30) {
            let topic = TOPICS[self.rng.usize(..TOPICS.len())];
            let mut payload = format!("n{}:", self.native.next_message).into_bytes();
            payload.resize(payload.len() + self.rng.usize(..largest), self.rng.lowercase() as u8);
            let client = &mut self.native.clients[index];
            let Some(ticket) = client.machine.send(topic, &payload) else { return };
            self.native.next_message += 1;
            client.sent.insert(ticket, SentInput { topic: topic.to_owned(), payload, outcome: SendOutcome::Pending });
        }
    }

    fn change_filters(&mut self, index: usize) {
        if self.native.clients[index].ended.is_some() {
            return;
        }
        for _ in 0..self.rng.usize(1..4) {
            let filters = self.some_filters();
            let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
            if filters.is_empty() {
                continue;
            }
            let machine = &mut self.native.clients[index].machine;
            let request = if self.rng.bool() { machine.subscribe(&filters) } else { machine.unsubscribe(&filters) };
            self.native.clients[index].requests.insert(request);
        }
    }

    /// Ends the connection of a client in a random way.
    fn break_connection(&mut self, index: usize) {
        if self.native.clients[index].connected {
            let how = [ConnectionEnd::Eof, ConnectionEnd::Reset, ConnectionEnd::Silent][self.rng.usize(..3)];
            self.close_connection(index, how);
        }
    }

    /// A program crashes, and another one starts: with the session that was saved, with the session as it was at the
    /// crash, or without one. With `overlap` the first one keeps running.
    fn crash(&mut self, index: usize, overlap: bool) {
        let ended = self.native.clients[index].ended.clone();
        if matches!(ended, Some(DisconnectReason::Left)) || self.native.clients[index].replaced {
            return;
        }
        let client = &mut self.native.clients[index];
        let current = client.machine.session().map(|ticket| (ticket, client.record.clone()));
        let resumed = match self.rng.u8(..4) {
            0 => None,
            1 => client.saved.clone().or(current),
            _ => current,
        };
        if overlap && resumed.is_none() {
            return;
        }
        self.native.counts.crashes += 1;
        let mut settings = self.native.clients[index].settings.clone();
        settings.resume = resumed.as_ref().map(|(ticket, _)| *ticket);
        let mut program = self.new_program(settings);
        program.saved.clone_from(&resumed);
        program.record = resumed.map(|(_, record)| record).unwrap_or_default();
        if overlap {
            let client = &mut self.native.clients[index];
            client.replaced = true;
            if !client.machine.is_ready() && client.ended.is_none() {
                (client.ended, client.retry_at) = (Some(DisconnectReason::Closed), None);
                self.drop_connection(index, ConnectionEnd::Silent);
            }
            return self.native.clients.push(program);
        }
        let how = [ConnectionEnd::Eof, ConnectionEnd::Reset, ConnectionEnd::Silent][self.rng.usize(..3)];
        self.drop_connection(index, how);
        let client = &mut self.native.clients[index];
        let before = std::mem::replace(client, program);
        client.prompt = before.prompt;
        client.previous_sent = before.previous_sent;
        client.previous_sent.extend(before.sent.into_values().map(|sent| match sent.outcome {
            SendOutcome::Pending => SentInput { outcome: SendOutcome::Unknown, ..sent },
            _ => sent,
        }));
        // The new program may start without this record, so check it now.
        before.record.check(&self.native.reference, &self.inputs);
    }
}
