//! A network of datagrams: it loses, repeats, delays and reorders what is sent.

use fastrand::Rng;
use std::time::Duration;
use upcall_engine::Time;

/// How bad it is: of a hundred datagrams so many are lost, so many come twice, and each takes up to so long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    pub(crate) loss: u8,
    pub(crate) repeats: u8,
    pub(crate) delay: Duration,
}

/// Datagrams under way, each with whom it is from or to, and the time of its arrival.
#[derive(Debug)]
pub(crate) struct Network<P> {
    under_way: Vec<(Time, u64, P)>,
    pub(crate) weather: Weather,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) overtaken: u64,
}

impl<P: Clone> Network<P> {
    pub(crate) fn new(weather: Weather) -> Network<P> {
        Network { under_way: Vec::new(), weather, sent: 0, lost: 0, repeated: 0, overtaken: 0 }
    }

    /// Sends a datagram: each copy takes its own time.
    pub(crate) fn send(&mut self, rng: &mut Rng, now: Time, who: u64, packet: &P) {
        let Weather { loss, repeats, delay } = self.weather;
        self.sent += 1;
        if rng.u8(..100) < loss {
            self.lost += 1;
            return;
        }
        let copies = 1 + u64::from(rng.u8(..100) < repeats);
        self.repeated += copies - 1;
        for _ in 0..copies {
            let arrival = now + Duration::from_nanos(rng.u64(..=delay.as_nanos() as u64));
            self.overtaken += u64::from(self.under_way.iter().any(|(other, to, _)| *to == who && *other > arrival));
            self.under_way.push((arrival, who, packet.clone()));
        }
    }

    /// What has arrived by now, in the order of arrival.
    pub(crate) fn arrived(&mut self, now: Time) -> Vec<(u64, P)> {
        let mut arrived: Vec<_> = self.under_way.extract_if(.., |(arrival, ..)| *arrival <= now).collect();
        arrived.sort_by_key(|(arrival, ..)| *arrival);
        arrived.into_iter().map(|(_, who, packet)| (who, packet)).collect()
    }

    /// When the next one arrives.
    pub(crate) fn next(&self) -> Option<Time> {
        self.under_way.iter().map(|(arrival, ..)| *arrival).min()
    }
}
