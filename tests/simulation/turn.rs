//! The turns of the daemon: time passes, everything that is due happens, and endpoints are flushed at the end of a
//! turn.

use std::time::Duration;

use upcall_engine::{Event, Time};
use upcall_wire::reason::Reason;

use crate::simulation::Simulation;

impl Simulation {
    /// Lets time pass, and handles everything when it is due.
    pub(crate) fn run(&mut self, pause: Duration) {
        let until = self.now + pause;
        let mut last = None;
        while let Some(next) = self.next_due().filter(|next| *next <= until) {
            let next = next.max(self.now);
            // What is due again immediately is delayed by a millisecond, as it would be until the next turn.
            self.now = if last == Some(next) { next + Duration::from_millis(1) } else { next };
            last = Some(self.now);
            if self.now > until {
                break;
            }
            self.process_due();
            self.end_turn();
        }
        self.now = self.now.max(until);
        self.process_due();
    }

    fn next_due(&self) -> Option<Time> {
        [self.engine.deadline(), self.network.next(), self.native_due()].into_iter().flatten().min()
    }

    /// Handles what is due by now.
    pub(crate) fn process_due(&mut self) {
        self.deliver_text();
        self.process_native();
        self.engine.expire(self.now());
        self.check_leases();
    }

    /// Ends a turn as the daemon does: writes what the sockets accept. Twice, since the slow policy may act in between.
    pub(crate) fn end_turn(&mut self) {
        for _ in 0..2 {
            let mut ready = Vec::new();
            self.engine.take_ready(&mut ready);
            for id in ready {
                match self.engine.endpoint(id).map(|endpoint| endpoint.tag) {
                    Some(0) => self.flush_text(id),
                    Some(tag) => self.flush_native(id, tag),
                    None => {}
                }
            }
            self.check_catching_up();
            self.engine.end_turn(self.now());
            self.check_catching_up();
            self.handle_events();
        }
        self.check_engine();
    }

    fn check_engine(&self) {
        self.engine.check_invariants();
        let (used, size) = self.engine.log_memory();
        assert!(used <= size);
    }

    pub(crate) fn check_between_turns(&mut self) {
        self.check_catching_up();
        self.engine.check_invariants();
    }

    pub(crate) fn handle_events(&mut self) {
        while let Some(event) = self.engine.next_event() {
            match event {
                Event::Left { endpoint, reason, complete } if endpoint.tag > 0 => {
                    self.native_left(&endpoint, reason, complete);
                }
                Event::Left { endpoint, reason, complete } => {
                    let next = self.engine.next_sequence();
                    let client = self.clients.get_mut(&endpoint.number).unwrap();
                    assert!(client.ended.replace((reason, complete)).is_none());
                    client.until.get_or_insert(next);
                    let expired = client.lease <= self.now + self.suspended;
                    assert!(reason != Reason::LeaseExpired || expired, "a lease ended early");
                    let slow = reason == Reason::SlowConsumer;
                    assert!(!(client.prompt && slow), "a prompt reader was disconnected as slow");
                }
                Event::Unparked(tag) => self.unpark(tag),
                Event::InputsHeld(number) => self.check_inputs_held_for(number),
                _ => {}
            }
        }
    }

    pub(crate) fn check_leases(&mut self) {
        self.handle_events();
        let now = self.now().boot;
        let texts = self.clients.values().filter(|client| client.datagrams.is_some() && client.ended.is_none());
        for (id, lease) in texts.map(|client| (client.id, client.lease)) {
            // Renewals may wait unread while inputs are held: the engine then extends the lease.
            let extended = self.engine.lease(id);
            let extended = self.engine.counters().waits > 0 && extended.is_some_and(|lease| lease > now);
            assert!(lease > now || extended, "the lease of {id:?} should have ended");
        }
        for (id, lease) in self.native_leases() {
            assert!(lease > now, "the lease of {id:?} should have ended");
        }
        assert!(self.engine.lease_deadline().is_none_or(|deadline| deadline > now));
    }
}
