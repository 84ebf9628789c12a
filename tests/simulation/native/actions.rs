//! What native clients do, and what happens to them, at random.

use upcall_client::machine::{Carrier, DisconnectReason, Settings};
use upcall_wire::frame::Role;

use super::client::{Client, Fate, Sent};
use super::streams::End;
use crate::world::World;

const TOPICS: [&str; 5] = ["", "a", "ab", "b", "c/d"];
const FILTERS: [&str; 7] = ["a", "a*", "b", "c/*", "*", "none", "ab*"];

impl World {
    pub(crate) fn native_happens(&mut self) {
        let count = self.natives.clients.len();
        if count < 2 || (count < 7 && self.rng.u8(..8) == 0) {
            return self.new_client();
        }
        let index = self.rng.usize(..count);
        match self.rng.u8(..32) {
            0..=12 => self.send_native(index),
            13..=16 => self.change_filters(index),
            17..=18 => {
                let stalled = self.rng.bool();
                self.natives.clients[index].stalled = stalled;
            }
            19..=21 => self.breaks(index),
            22..=23 => self.crash(index, false),
            24 => self.crash(index, true),
            25..=26 => {
                let client = &mut self.natives.clients[index];
                client.saved = client.machine.session().map(|ticket| (ticket, client.ledger.clone()));
            }
            27 if self.rng.u8(..4) == 0 => self.natives.clients[index].machine.leave(),
            28 => {
                // Its address changes, as behind a gateway, and it does not know.
                self.natives.clients[index].address = self.natives.next_address;
                self.natives.next_address += 1;
            }
            29 if self.natives.clients[index].connected => drop(self.natives.clients[index].machine.ping()),
            _ => self.natives_pass(),
        }
        self.work(index);
    }

    fn new_client(&mut self) {
        let carrier = if self.rng.bool() { Carrier::Stream } else { Carrier::Datagrams(2_500) };
        let roles = [Role::Both, Role::Both, Role::Both, Role::Both, Role::SendOnly, Role::ReceiveOnly];
        let since = self.rng.u8(..4) == 0 && (self.natives.history || self.rng.u8(..8) == 0);
        let next = self.engine.next_sequence();
        let settings = Settings {
            role: roles[self.rng.usize(..roles.len())],
            filters: self.some_filters(),
            since: since.then(|| self.rng.u64(..=next)),
            ..Settings::new(carrier)
        };
        let mut client = self.program(settings);
        client.prompt = self.rng.u8(..3) == 0;
        self.natives.clients.push(client);
    }

    fn program(&mut self, settings: Settings) -> Client {
        let address = self.natives.next_address;
        self.natives.next_address += 1;
        Client::new(settings, self.rng.u64(..), address, self.now)
    }

    fn some_filters(&mut self) -> Vec<String> {
        let count = [0, 0, 1, 2][self.rng.usize(..4)];
        self.rng.choose_multiple(FILTERS, count).into_iter().map(str::to_owned).collect()
    }

    fn send_native(&mut self, index: usize) {
        let largest = [40, 40, 400, 2_900, 30_000][self.rng.usize(..5)];
        for _ in 0..self.rng.usize(1..30) {
            let topic = TOPICS[self.rng.usize(..TOPICS.len())];
            let mut payload = format!("n{}:", self.natives.next_message).into_bytes();
            payload.resize(payload.len() + self.rng.usize(..largest), self.rng.lowercase() as u8);
            let client = &mut self.natives.clients[index];
            let Some(ticket) = client.machine.send(topic, &payload) else { return };
            self.natives.next_message += 1;
            client.sent.insert(ticket, Sent { topic: topic.to_owned(), payload, fate: Fate::Open });
        }
    }

    fn change_filters(&mut self, index: usize) {
        if self.natives.clients[index].over.is_some() {
            return;
        }
        for _ in 0..self.rng.usize(1..4) {
            let filters = self.some_filters();
            let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
            if filters.is_empty() {
                continue;
            }
            let machine = &mut self.natives.clients[index].machine;
            let request = if self.rng.bool() { machine.subscribe(&filters) } else { machine.unsubscribe(&filters) };
            self.natives.clients[index].requests.insert(request);
        }
    }

    /// The connection breaks, in one way or another.
    fn breaks(&mut self, index: usize) {
        if self.natives.clients[index].connected {
            let how = [End::Eof, End::Reset, End::Silent][self.rng.usize(..3)];
            self.hang_up(index, how);
        }
    }

    /// The program ends without a word, and another begins: with the session that was saved, or what it was when the program
    /// ended, or none. `twice`: the first one did not end at all.
    fn crash(&mut self, index: usize, twice: bool) {
        let over = self.natives.clients[index].over.clone();
        if matches!(over, Some(DisconnectReason::Left)) || self.natives.clients[index].replaced {
            return;
        }
        let client = &mut self.natives.clients[index];
        let present = client.machine.session().map(|ticket| (ticket, client.ledger.clone()));
        let known = match self.rng.u8(..4) {
            0 => None,
            1 => client.saved.clone().or(present),
            _ => present,
        };
        if twice && known.is_none() {
            return;
        }
        self.natives.figures.crashes += 1;
        let mut settings = self.natives.clients[index].settings.clone();
        settings.resume = known.as_ref().map(|(ticket, _)| *ticket);
        let mut program = self.program(settings);
        program.saved.clone_from(&known);
        program.ledger = known.map(|(_, ledger)| ledger).unwrap_or_default();
        if twice {
            let client = &mut self.natives.clients[index];
            client.replaced = true;
            if !client.machine.is_ready() && client.over.is_none() {
                (client.over, client.retry_at) = (Some(DisconnectReason::Closed), None);
                self.drop_line(index, End::Silent);
            }
            return self.natives.clients.push(program);
        }
        let how = [End::Eof, End::Reset, End::Silent][self.rng.usize(..3)];
        self.drop_line(index, how);
        let client = &mut self.natives.clients[index];
        let before = std::mem::replace(client, program);
        client.prompt = before.prompt;
        client.old = before.old;
        client.old.extend(before.sent.into_values().map(|sent| match sent.fate {
            Fate::Open => Sent { fate: Fate::Unknown, ..sent },
            _ => sent,
        }));
        // What it was told is checked now if nobody goes on from there.
        before.ledger.check(&self.natives.truth, &self.inputs);
    }
}
