//! A network between datagram clients and the engine: it loses, repeats and reorders what they send.

use fastrand::Rng;
use std::time::Duration;
use upcalld::engine::Time;

/// What a datagram client sends.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    /// It renews its lease.
    Renewal,
    /// It says something.
    Input(Vec<u8>),
}

/// Packets under way, each with the number of its sender and the time of its arrival.
#[derive(Debug, Default)]
pub(crate) struct Network {
    under_way: Vec<(Time, u64, Packet)>,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) overtaken: u64,
}

impl Network {
    /// Sends a packet: of ten, two are lost and one is repeated, and each copy takes its own time.
    pub(crate) fn send(&mut self, rng: &mut Rng, now: Time, sender: u64, packet: &Packet) {
        let copies = [0, 0, 1, 1, 1, 1, 1, 1, 1, 2][rng.usize(..10)];
        self.lost += u64::from(copies == 0);
        self.repeated += u64::from(copies == 2);
        for _ in 0..copies {
            let arrival = now + Duration::from_millis(rng.u64(..500));
            self.overtaken +=
                u64::from(self.under_way.iter().any(|(other, from, _)| *from == sender && *other > arrival));
            self.under_way.push((arrival, sender, packet.clone()));
        }
    }

    /// What has arrived by now, in the order of arrival.
    pub(crate) fn arrived(&mut self, now: Time) -> Vec<(u64, Packet)> {
        let mut arrived: Vec<_> = self.under_way.extract_if(.., |(arrival, ..)| *arrival <= now).collect();
        arrived.sort_by_key(|(arrival, ..)| *arrival);
        arrived.into_iter().map(|(_, sender, packet)| (sender, packet)).collect()
    }
}
