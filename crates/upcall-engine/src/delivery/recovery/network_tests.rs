//! All rules together, over a random network.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use proptest::prelude::*;
use upcall_wire::frame::datagram::Arrivals;

use super::*;

const MS: u64 = 1_000_000;

fn at(ms: u64) -> Time {
    Time(ms * MS)
}

/// The faults of a network.
#[derive(Debug, Clone, Copy)]
struct Network {
    /// The shares of datagrams, and of ACKs, that are lost.
    loss: f64,
    ack_loss: f64,
    duplication: f64,
    /// The share of datagrams that the socket does not accept.
    refusals: f64,
    /// One way, in microseconds: the least delay, and the most that is added to it.
    delay: u64,
    spread: u64,
}

impl Network {
    /// After which delays the copies of one datagram arrive.
    fn delays(&self, random: &mut fastrand::Rng, loss: f64) -> Vec<Duration> {
        let copies = 1 + usize::from(random.f64() < self.duplication);
        let mut delay = || Duration::from_micros(self.delay + random.u64(0..=self.spread));
        let delays: Vec<Duration> = (0..copies).map(|_| delay()).collect();
        delays.into_iter().filter(|_| random.f64() >= loss).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Packet {
    Datagram { number: u64, content: u64 },
    Ack { largest: u64, bitmap: u64 },
}

/// Sends contents over a network until all have arrived. Returns how many transmissions that took, and how long.
fn run(network: Network, contents: u64, seed: u64) -> (u64, Duration) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut recovery = Recovery::new(seed);
    let (mut arrivals, mut received) = (Arrivals::default(), BTreeSet::new());
    let mut acknowledged = BTreeSet::new();
    let mut travelling = BinaryHeap::new();
    let (mut now, mut fresh, mut transmissions) = (at(1), 0, 0);
    loop {
        while recovery.has_room() && (recovery.has_lost() || fresh < contents) {
            let (number, content) = if let Some((number, content)) = recovery.resend(now) {
                (number, *content)
            } else {
                fresh += 1;
                (recovery.sent(now, fresh), fresh)
            };
            assert!(recovery.in_flight() <= 65, "{} in flight", recovery.in_flight());
            if random.f64() < network.refusals {
                recovery.unsent(number);
                break;
            }
            transmissions += 1;
            for delay in network.delays(&mut random, network.loss) {
                travelling.push(Reverse((now + delay, Packet::Datagram { number, content })));
            }
        }
        assert_eq!(recovery.unacknowledged().count() + acknowledged.len(), fresh as usize);
        assert!(recovery.unacknowledged().count() <= 65, "bounded memory");
        if recovery.is_idle() && fresh == contents {
            assert_eq!(recovery.deadline(), None);
            return (transmissions, now.since(at(1)));
        }
        let deadline = recovery.deadline().expect("something is unacknowledged");
        assert!(deadline > now, "what is due was done");
        if travelling.peek().is_none_or(|Reverse((arrival, _))| *arrival >= deadline) {
            now = deadline;
            recovery.expire(now);
            continue;
        }
        let Some(Reverse((arrival, packet))) = travelling.pop() else { continue };
        now = arrival;
        match packet {
            Packet::Datagram { number, content } => {
                arrivals.add(number);
                received.insert(content);
                let Ack { largest, bitmap } = arrivals.ack().unwrap();
                for delay in network.delays(&mut random, network.ack_loss) {
                    travelling.push(Reverse((now + delay, Packet::Ack { largest, bitmap })));
                }
            }
            Packet::Ack { largest, bitmap } => {
                recovery.acked(now, &Ack { largest, bitmap }, |content| {
                    assert!(received.contains(&content), "{content} has not arrived");
                    assert!(acknowledged.insert(content), "{content} was acknowledged before");
                });
            }
        }
    }
}

fn networks(loss: f64) -> impl Strategy<Value = Network> {
    (
        0.0..loss,
        0.0..loss,
        0.0..0.5,
        prop_oneof![Just(0.0), 0.0..0.5],
        0u64..200_000,
        prop_oneof![Just(0), 0u64..200_000],
    )
        .prop_map(|(loss, ack_loss, duplication, refusals, delay, spread)| Network {
            loss,
            ack_loss,
            duplication,
            refusals,
            delay,
            spread,
        })
}

proptest! {
    /// Whatever the network does, everything arrives, is acknowledged once, and costs little more than necessary: a
    /// transmission is wasted unless both it and (at worst) its ACK arrive. Twice as many are allowed, because
    /// reordering looks like loss, and some more for bad luck.
    #[test]
    fn everything_arrives_over_any_network(network in networks(0.5), contents in 1u64..500, seed: u64) {
        let (transmissions, _) = run(network, contents, seed);
        let necessary = contents as f64 / ((1.0 - network.loss) * (1.0 - network.ack_loss));
        prop_assert!(transmissions as f64 <= 2.0 * necessary + 30.0, "{transmissions} rather than {necessary}");
    }

    /// Even where hardly anything arrives.
    #[test]
    fn everything_arrives_over_a_very_bad_network(network in networks(0.9), contents in 1u64..30, seed: u64) {
        run(network, contents, seed);
    }

    /// No forged ACK causes a panic, or acknowledges what was not sent, or acknowledges anything twice.
    #[test]
    fn forged_acks_do_no_harm(acks in prop::collection::vec((0u64..200, any::<u64>(), 0u64..1000), 1..200)) {
        let mut recovery = Recovery::new(1);
        let (mut acknowledged, mut sent, mut now) = (BTreeSet::new(), 0, 0);
        for (largest, bitmap, pause) in acks {
            now += pause;
            recovery.expire(at(now));
            while recovery.has_room() {
                if recovery.resend(at(now)).is_none() {
                    sent += 1;
                    recovery.sent(at(now), sent);
                }
            }
            prop_assert!(recovery.in_flight() <= 65);
            recovery.acked(at(now), &Ack { largest, bitmap }, |content| assert!(acknowledged.insert(content)));
            prop_assert_eq!(recovery.unacknowledged().count() + acknowledged.len(), sent as usize);
        }
    }
}

/// Over a network without faults, everything is sent once, as fast as the window allows: with a round trip of 20 ms, 10
/// + 20 + 40 + 64 × 14 = 966 go in 17 round trips, the rest of 1000 in one more.
#[test]
fn nothing_is_sent_twice_over_a_network_without_faults() {
    let network = Network { loss: 0.0, ack_loss: 0.0, duplication: 0.0, refusals: 0.0, delay: 10_000, spread: 0 };
    assert_eq!(run(network, 1000, 1), (1000, Duration::from_millis(18 * 20)));
}
