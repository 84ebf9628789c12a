//! The random steps of a simulation.

use std::time::{Duration, SystemTime};

use upcall_engine::Audience;
use upcall_wire::reason::Reason;

use crate::simulation::Simulation;
use crate::text::TextDatagram;

impl Simulation {
    /// Does one random thing, perhaps ends the turn, and checks the engine.
    pub(crate) fn step(&mut self) {
        match self.rng.u8(..48) {
            0..=1 => self.connect_text(),
            2..=9 => self.send_text(),
            10..=15 => self.read_text(),
            16..=20 => self.step_text(),
            21..=34 => self.step_native(),
            35 => {
                self.settings.audience = [Audience::All, Audience::Others, Audience::Sender][self.rng.usize(..3)];
                self.engine.reconfigure(self.now(), self.settings.clone());
            }
            36 if self.rng.u8(..4) == 0 => {
                // The wall clock is set, or the machine was suspended. Leases count only the suspend.
                match self.rng.bool() {
                    true => self.wall = SystemTime::UNIX_EPOCH + Duration::from_secs(self.rng.u64(..1 << 32)),
                    false => self.suspended += Duration::from_secs(self.rng.u64(..4)),
                }
                self.engine.expire(self.now());
                self.check_leases();
            }
            37 if self.rng.u8(..16) == 0 => self.restart(),
            38 => {
                // The daemon was not scheduled for a while, so everything is handled late.
                self.now = self.now + Duration::from_millis(self.rng.u64(..3_000));
                self.process_due();
            }
            _ => {
                let pause = Duration::from_millis(self.rng.u64(0..400));
                self.run(pause);
            }
        }
        self.handle_events();
        if self.rng.bool() {
            self.end_turn();
        }
        self.check_between_turns();
    }

    /// Does something random with a text client.
    fn step_text(&mut self) {
        let now = self.now();
        let Some(number) = self.any_text_client() else { return };
        match self.rng.u8(..5) {
            0 => {
                let stalled = self.rng.bool();
                let client = self.clients.get_mut(&number).unwrap();
                (client.stalled, client.ever_stalled) = (stalled, client.ever_stalled | stalled);
            }
            1 => {
                let reasons = [Reason::Closed, Reason::Closed, Reason::Http, Reason::MessageTooLarge];
                let reason = reasons[self.rng.usize(..reasons.len())];
                let id = self.mark_leaving(number);
                self.engine.leave(now, id, reason);
            }
            2 => {
                let id = self.mark_leaving(number);
                if self.rng.bool() {
                    return self.engine.connection_lost(now, id, Reason::Reset);
                }
                self.engine.close_writes(now, id);
                match self.rng.bool() {
                    true => self.engine.leave(now, id, Reason::Closed),
                    false => self.engine.connection_lost(now, id, Reason::Dead),
                }
            }
            3 => {
                let unfinished = self.rng.bool();
                self.engine.note_received(now, self.clients[&number].id, unfinished);
            }
            _ => {
                for (number, client) in self.clients.iter().filter(|(_, client)| client.until.is_none()) {
                    if client.datagrams.is_some() && self.rng.bool() {
                        self.network.send(&mut self.rng, self.now, *number, &TextDatagram::Renewal);
                    }
                }
            }
        }
    }
}
