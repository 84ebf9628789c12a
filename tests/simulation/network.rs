//! A network of datagrams: it loses, repeats, delays and reorders what is sent.

use std::time::Duration;

use fastrand::Rng;
use upcall_engine::Time;

/// How unreliable a network is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NetworkConditions {
    /// Datagrams lost, in percent.
    pub(crate) loss: u8,
    /// Datagrams that arrive twice, in percent.
    pub(crate) repeats: u8,
    /// The longest time that a datagram takes.
    pub(crate) delay: Duration,
}

/// Datagrams in flight in one direction.
#[derive(Debug)]
pub(crate) struct DatagramNetwork<P> {
    /// Each with the time of its arrival and the address of the client that it comes from or goes to.
    under_way: Vec<(Time, u64, P)>,
    pub(crate) conditions: NetworkConditions,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) overtaken: u64,
}

impl<P: Clone> DatagramNetwork<P> {
    pub(crate) fn new(conditions: NetworkConditions) -> DatagramNetwork<P> {
        DatagramNetwork { under_way: Vec::new(), conditions, sent: 0, lost: 0, repeated: 0, overtaken: 0 }
    }

    /// Sends a datagram. Each copy has a delay of its own.
    pub(crate) fn send(&mut self, rng: &mut Rng, now: Time, client: u64, packet: &P) {
        let NetworkConditions { loss, repeats, delay } = self.conditions;
        self.sent += 1;
        if rng.u8(..100) < loss {
            self.lost += 1;
            return;
        }
        let copies = 1 + u64::from(rng.u8(..100) < repeats);
        self.repeated += copies - 1;
        for _ in 0..copies {
            let arrival = now + Duration::from_nanos(rng.u64(..=delay.as_nanos() as u64));
            let overtakes = |(other, of, _): &(Time, u64, P)| *of == client && *other > arrival;
            self.overtaken += u64::from(self.under_way.iter().any(overtakes));
            self.under_way.push((arrival, client, packet.clone()));
        }
    }

    /// Removes and returns the datagrams that have arrived by now, in the order of arrival.
    pub(crate) fn take_arrived(&mut self, now: Time) -> Vec<(u64, P)> {
        let mut arrived: Vec<_> = self.under_way.extract_if(.., |(arrival, ..)| *arrival <= now).collect();
        arrived.sort_by_key(|(arrival, ..)| *arrival);
        arrived.into_iter().map(|(_, client, packet)| (client, packet)).collect()
    }

    /// When the next datagram arrives.
    pub(crate) fn next(&self) -> Option<Time> {
        self.under_way.iter().map(|(arrival, ..)| *arrival).min()
    }
}
