//! Each rule of the RFCs, with numbers.

use std::ops::RangeInclusive;
use std::time::Duration;

use upcall_wire::frame::datagram::Arrivals;

use super::*;

const MS: u64 = 1_000_000;

/// The result of an ACK that is ignored.
const NOTHING: [u64; 0] = [];

fn at(ms: u64) -> Time {
    Time(ms * MS)
}

/// The ACK of a client that these numbers have reached.
fn ack(numbers: impl IntoIterator<Item = u64>) -> Ack {
    let mut arrivals = Arrivals::default();
    numbers.into_iter().for_each(|number| _ = arrivals.add(number));
    arrivals.ack().unwrap()
}

/// The contents that an ACK acknowledges.
fn acked(recovery: &mut Recovery<u64>, now: Time, ack: Ack) -> Vec<u64> {
    let mut arrived = Vec::new();
    let new = recovery.acked(now, &ack, |content| arrived.push(content));
    assert_eq!(new, !arrived.is_empty());
    arrived
}

/// Sends contents that are the same as their numbers, if nothing was sent before.
fn send(recovery: &mut Recovery<u64>, now: Time, contents: RangeInclusive<u64>) {
    contents.for_each(|content| _ = recovery.sent(now, content));
}

/// Sends again everything that is lost, without regard to the window. Returns it in that order.
fn resend_all(recovery: &mut Recovery<u64>, now: Time) -> Vec<u64> {
    std::iter::from_fn(|| recovery.resend(now).map(|(_, content)| *content)).collect()
}

/// How many may be sent in a row.
fn window(recovery: &Recovery<u64>) -> usize {
    recovery.window.size()
}

/// Sends new contents while there is room. Returns their numbers.
fn fill(recovery: &mut Recovery<u64>, now: Time) -> Vec<u64> {
    std::iter::from_fn(|| recovery.has_room().then(|| recovery.sent(now, 0))).collect()
}

/// Asserts that the deadline is in `ms` milliseconds, or up to a quarter more because of the jitter.
#[track_caller]
fn assert_wait(recovery: &Recovery<u64>, now: Time, ms: u64) {
    let wait = recovery.deadline().unwrap().since(now);
    let shortest = Duration::from_millis(ms);
    assert!((shortest..=shortest * 5 / 4).contains(&wait), "{wait:?} rather than {shortest:?}");
}

#[test]
fn the_round_trip_is_estimated_as_the_rfcs_do() {
    let first = RoundTrip::sampled(None, Duration::from_millis(100));
    assert_eq!((first.smoothed, first.variation), (100_000_000, 50_000_000));
    // rttvar = (3 × 50 + |100 − 200|) / 4 = 62.5, then srtt = (7 × 100 + 200) / 8 = 112.5.
    let second = RoundTrip::sampled(Some(first), Duration::from_millis(200));
    assert_eq!((second.smoothed, second.variation), (112_500_000, 62_500_000));
    // 9/8 × max(112.5, 200) = 225; then 9/8 × 1 µs, which is below the granularity of timers.
    assert_eq!(second.loss_delay().as_micros(), 225_000);
    assert_eq!(RoundTrip::sampled(None, Duration::from_micros(1)).loss_delay().as_micros(), 1000);
    // A round trip of an hour is capped.
    assert_eq!(RoundTrip::sampled(None, Duration::from_secs(3600)).smoothed, 60_000_000_000);
}

#[test]
fn the_first_timeout_is_a_second_and_later_ones_follow_the_round_trip() {
    let mut recovery = Recovery::new(1);
    assert_eq!(recovery.deadline(), None);
    send(&mut recovery, at(0), 1..=1);
    assert_wait(&recovery, at(0), 1000);
    // 100 + 4 × 50 = 300.
    assert_eq!(acked(&mut recovery, at(100), ack([1])), [1]);
    assert_eq!(recovery.deadline(), None);
    send(&mut recovery, at(100), 2..=2);
    assert_wait(&recovery, at(100), 300);

    // 10 + 4 × 5 = 30, which is too short.
    let mut recovery = Recovery::new(1);
    send(&mut recovery, at(0), 1..=2);
    acked(&mut recovery, at(10), ack([1]));
    assert_wait(&recovery, at(10), 200);
}

#[test]
fn timeouts_double_up_to_a_minute_until_something_arrives() {
    let mut recovery = Recovery::new(2);
    send(&mut recovery, at(0), 1..=1);
    let mut now = at(0);
    for seconds in [1, 2, 4, 8, 16, 32] {
        assert_wait(&recovery, now, seconds * 1000);
        now = recovery.deadline().unwrap();
        recovery.expire(now);
        assert_eq!(resend_all(&mut recovery, now), [1]);
    }
    for _ in 0..100 {
        assert_eq!(recovery.deadline().unwrap().since(now).as_secs(), 60);
        now = recovery.deadline().unwrap();
        recovery.expire(now);
        resend_all(&mut recovery, now);
    }
    let last = recovery.last;
    assert_eq!(acked(&mut recovery, now + Duration::from_millis(100), ack([last])), [1]);
    send(&mut recovery, now, 2..=2);
    assert_wait(&recovery, now, 300);
}

#[test]
fn jitter_is_the_same_for_the_same_seed_only() {
    let deadline = |seed| {
        let mut recovery = Recovery::new(seed);
        send(&mut recovery, at(0), 1..=1);
        recovery.deadline()
    };
    assert_eq!(deadline(1), deadline(1));
    assert_ne!(deadline(1), deadline(2));
}

#[test]
fn three_later_datagrams_make_a_loss_and_two_do_not() {
    let mut recovery = Recovery::new(1);
    send(&mut recovery, at(0), 1..=6);
    // Numbers 4 and 5 are two later ones than 1, 2 and 3.
    assert_eq!(acked(&mut recovery, at(10), ack([4, 5])), [4, 5]);
    assert!(!recovery.has_lost());
    assert_eq!(acked(&mut recovery, at(10), ack([4, 5, 6])), [6]);
    assert_eq!(recovery.in_flight(), 0);
    assert_eq!(resend_all(&mut recovery, at(10)), [1, 2, 3]);
    assert_eq!(acked(&mut recovery, at(20), ack(4..=9)), [1, 2, 3]);
    assert!(recovery.is_idle());
}

#[test]
fn numbers_that_were_not_sent_overtake_nothing() {
    let mut recovery = Recovery::new(1);
    send(&mut recovery, at(0), 1..=5);
    (2..=4).for_each(|number| recovery.unsent(number));
    acked(&mut recovery, at(10), ack([5]));
    assert_eq!(recovery.in_flight(), 1);
    assert_eq!(recovery.unacknowledged().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn one_later_datagram_makes_a_loss_after_nine_eighths_of_a_round_trip() {
    let mut recovery = Recovery::new(1);
    send(&mut recovery, at(0), 1..=1);
    send(&mut recovery, at(20), 2..=2);
    acked(&mut recovery, at(120), ack([2]));
    // 0 + 9/8 × 100 = 112.5 is over by then.
    assert!(recovery.has_lost());

    let mut recovery = Recovery::new(1);
    send(&mut recovery, at(0), 1..=2);
    acked(&mut recovery, at(100), ack([2]));
    let deadline = Time(112_500_000);
    assert_eq!(recovery.deadline(), Some(deadline));
    recovery.expire(Time(deadline.0 - 1));
    assert!(!recovery.has_lost());
    recovery.expire(deadline);
    assert!(recovery.has_lost());
    // It was no timeout, and the next one counts from now: 300 ms.
    assert_wait(&recovery, deadline, 300);
}

#[test]
fn the_content_that_was_sent_first_is_sent_again_first() {
    let mut recovery = Recovery::new(1);
    send(&mut recovery, at(0), 1..=6);
    acked(&mut recovery, at(10), ack([2, 3, 4]));
    // Content 1 is sent again as number 7, after 5 and 6. Then all three are lost.
    assert_eq!(recovery.resend(at(10)), Some((7, &1)));
    send(&mut recovery, at(11), 8..=10);
    acked(&mut recovery, at(11), ack([8, 9, 10]));
    assert_eq!(resend_all(&mut recovery, at(12)), [1, 5, 6]);
}

#[test]
fn numbers_that_were_never_used_are_ignored() {
    let mut recovery = Recovery::new(1);
    let everything = |largest| Ack { largest, bitmap: u64::MAX };
    assert_eq!(acked(&mut recovery, at(0), everything(0)), NOTHING);
    assert_eq!(acked(&mut recovery, at(0), everything(1)), NOTHING);
    send(&mut recovery, at(0), 1..=64);
    for largest in [0, 65, 66, 1000, u64::MAX] {
        assert_eq!(acked(&mut recovery, at(1), everything(largest)), NOTHING, "{largest}");
        assert_eq!(acked(&mut recovery, at(1), Ack { largest, bitmap: 1 }), NOTHING, "{largest}");
    }
    // The last bit of 64 would be that of number 0, and of 1 all are.
    for largest in 1..=64 {
        assert_eq!(acked(&mut recovery, at(1), everything(largest)), NOTHING, "{largest}");
    }
    assert_eq!(recovery.in_flight(), 64);
    let expected: Vec<u64> = (1..=64).collect();
    assert_eq!(acked(&mut recovery, at(1), Ack { largest: 64, bitmap: u64::MAX >> 1 }), expected);
    assert_eq!(acked(&mut recovery, at(1), Ack { largest: 64, bitmap: u64::MAX >> 1 }), NOTHING);
}

#[test]
fn a_lost_datagram_that_arrives_late_is_not_sent_again() {
    let mut recovery = Recovery::new(1);
    send(&mut recovery, at(0), 1..=4);
    acked(&mut recovery, at(10), ack(2..=4));
    assert!(recovery.has_lost());
    assert_eq!(acked(&mut recovery, at(11), ack(1..=4)), [1]);
    assert_eq!(recovery.resend(at(11)), None);
    assert!(recovery.is_idle());
    assert_eq!(recovery.deadline(), None);
}

#[test]
fn a_retransmission_is_acknowledged_once() {
    let mut recovery = Recovery::new(1);
    send(&mut recovery, at(0), 1..=4);
    acked(&mut recovery, at(10), ack(2..=4));
    assert_eq!(recovery.resend(at(10)), Some((5, &1)));
    // The first transmission was only late, but its number is forgotten.
    assert_eq!(acked(&mut recovery, at(11), ack(1..=4)), NOTHING);
    assert_eq!(acked(&mut recovery, at(20), ack(1..=5)), [1]);
    assert_eq!(acked(&mut recovery, at(21), ack(1..=5)), NOTHING);
}

#[test]
fn only_the_largest_number_measures_and_only_once() {
    let mut recovery = Recovery::new(1);
    send(&mut recovery, at(0), 1..=3);
    acked(&mut recovery, at(100), ack([2]));
    let smoothed = |recovery: &Recovery<u64>| recovery.round_trip.map(|round_trip| round_trip.smoothed / 1_000_000);
    assert_eq!(smoothed(&recovery), Some(100));
    // This ACK says nothing about when 1 arrived: 2 was acknowledged before.
    assert_eq!(acked(&mut recovery, at(110), ack([2, 1])), [1]);
    assert_eq!(smoothed(&recovery), Some(100));
    // (7 × 100 + 180) / 8 = 110.
    acked(&mut recovery, at(180), ack([1, 2, 3]));
    assert_eq!(smoothed(&recovery), Some(110));
}

#[test]
fn the_window_doubles_each_round_trip_up_to_64() {
    let mut recovery = Recovery::new(1);
    let mut now = 0;
    for size in [10, 20, 40, 64, 64] {
        let numbers = fill(&mut recovery, at(now));
        assert_eq!(numbers.len(), size);
        now += 10;
        acked(&mut recovery, at(now), ack(numbers));
    }
    assert_eq!(window(&recovery), 64);
}

#[test]
fn a_window_that_is_not_full_does_not_grow() {
    let mut recovery = Recovery::new(1);
    for round in 0..100 {
        send(&mut recovery, at(round), 1..=9);
        acked(&mut recovery, at(round), ack(round * 9 + 1..=round * 9 + 9));
    }
    assert_eq!(window(&recovery), 10);
}

#[test]
fn losses_of_one_round_trip_halve_the_window_once() {
    let mut recovery = Recovery::new(1);
    fill(&mut recovery, at(0));
    // 4 and 5 are no losses yet, and nothing grows along with a loss: 10 / 2 = 5.
    acked(&mut recovery, at(10), ack([3, 6, 7]));
    assert_eq!((window(&recovery), recovery.lost.len()), (5, 2));
    acked(&mut recovery, at(11), ack([3, 6, 7, 8]));
    assert_eq!((window(&recovery), recovery.lost.len()), (5, 4));
    // 9 and 10 are outstanding: three more fill it. They left after the loss: theirs is another, 5 / 2 = 2.
    assert_eq!(fill(&mut recovery, at(12)), [11, 12, 13]);
    acked(&mut recovery, at(20), ack([9, 10, 12, 13]));
    assert_eq!(window(&recovery), 5);
    assert_eq!(fill(&mut recovery, at(20)), [14, 15, 16, 17]);
    acked(&mut recovery, at(30), ack([12, 13, 14]));
    assert_eq!(window(&recovery), 2);
    // And never less.
    send(&mut recovery, at(40), 1..=4);
    acked(&mut recovery, at(50), ack([19, 20, 21]));
    assert_eq!(window(&recovery), 2);
}

#[test]
fn after_a_loss_the_window_grows_by_one_each_round_trip() {
    let mut recovery = Recovery::new(1);
    fill(&mut recovery, at(0));
    acked(&mut recovery, at(10), ack(2..=10));
    assert_eq!((window(&recovery), recovery.lost.len()), (5, 1));
    let mut now = 10;
    for size in [5, 6, 7, 8] {
        let numbers = fill(&mut recovery, at(now));
        assert_eq!(numbers.len(), size);
        now += 10;
        acked(&mut recovery, at(now), ack(numbers));
    }
}

#[test]
fn a_timeout_sends_the_oldest_again_even_beyond_the_window() {
    let mut recovery = Recovery::new(1);
    assert_eq!(fill(&mut recovery, at(0)).len(), 10);
    let mut now = at(0);
    // Halved by the first, which counts as a loss; 2 after the second, which is 3 first timeouts later.
    for (number, size) in [(1, 5), (2, 2), (3, 2)] {
        now = recovery.deadline().unwrap();
        recovery.expire(now);
        assert_eq!((recovery.in_flight(), recovery.lost.len(), window(&recovery)), (9, 1, size));
        assert_eq!(recovery.lost[0].number, number);
        assert!(recovery.has_room());
        recovery.resend(now).unwrap();
        assert!(!recovery.has_room());
    }
    // Number 13, which is content 3, arrives: 4 to 12 were in flight for long, so they are lost to the same congestion.
    // Slow start continues from 2 to 5, and then the window grows by one in each round trip.
    let mut now = now + Duration::from_millis(10);
    assert!(recovery.acked(now, &ack([13]), |_| {}));
    assert_eq!((recovery.in_flight(), recovery.lost.len(), window(&recovery)), (0, 9, 3));
    resend_all(&mut recovery, now);
    now = now + Duration::from_millis(10);
    assert!(recovery.acked(now, &ack(14..=22), |_| {}));
    for size in [6, 7, 8] {
        assert_eq!(window(&recovery), size);
        let numbers = fill(&mut recovery, now);
        acked(&mut recovery, now, ack(numbers));
    }
}

#[test]
fn an_acknowledgment_makes_a_probe_unnecessary() {
    let mut recovery = Recovery::new(1);
    fill(&mut recovery, at(0));
    let now = recovery.deadline().unwrap();
    recovery.expire(now);
    assert!(recovery.has_room());
    // The window is 5, and 8 are still in flight, for less than 9/8 of what has just been measured.
    acked(&mut recovery, now, ack([10]));
    assert_eq!((recovery.in_flight(), window(&recovery), recovery.has_room()), (8, 5, false));
}

#[test]
fn a_probe_that_the_socket_does_not_accept_may_be_repeated() {
    let mut recovery = Recovery::new(1);
    fill(&mut recovery, at(0));
    let now = recovery.deadline().unwrap();
    recovery.expire(now);
    let (number, _) = recovery.resend(now).unwrap();
    recovery.unsent(number);
    assert!(recovery.has_room() && recovery.has_lost());
    assert_eq!(recovery.resend(now).map(|(number, _)| number), Some(12));
    assert!(!recovery.has_room());
}

#[test]
fn a_datagram_that_the_socket_does_not_accept_is_sent_again_without_other_effects() {
    let mut recovery = Recovery::new(1);
    send(&mut recovery, at(0), 1..=5);
    [5, 3, 4, 4, 99, 0].into_iter().for_each(|number| recovery.unsent(number));
    assert_eq!((window(&recovery), recovery.in_flight(), recovery.last), (10, 2, 5));
    // No client can have received them.
    assert_eq!(acked(&mut recovery, at(10), ack([3, 4, 5])), NOTHING);
    assert_eq!(resend_all(&mut recovery, at(10)), [3, 4, 5]);
    assert_eq!(acked(&mut recovery, at(20), ack([1, 2, 6, 7, 8])), [1, 2, 3, 4, 5]);

    // Nothing is in flight: the deadline is a reminder, which does not become rarer.
    recovery.sent(at(20), 9);
    recovery.unsent(9);
    let mut now = at(20);
    for _ in 0..10 {
        now = recovery.deadline().unwrap();
        recovery.expire(now);
        assert!(recovery.has_lost() && recovery.has_room());
    }
    assert_wait(&recovery, now, 200);
}

#[test]
fn a_suspend_is_one_timeout() {
    let mut recovery = Recovery::new(1);
    send(&mut recovery, at(0), 1..=8);
    let now = at(24 * 3600 * 1000);
    (0..100).for_each(|_| recovery.expire(now));
    assert_eq!((recovery.in_flight(), recovery.lost.len()), (7, 1));
    assert_wait(&recovery, now, 2000);
    // 6 is overtaken by 7 and 8: that it is lost is one step, too, and no timeout on top.
    acked(&mut recovery, now, ack([1, 2, 3, 4, 5, 7, 8]));
    let later = at(48 * 3600 * 1000);
    (0..100).for_each(|_| recovery.expire(later));
    assert_eq!(recovery.timeouts, 0);
    assert!(recovery.deadline().unwrap() > later);
}

#[test]
fn cleared_contents_are_gone() {
    let mut recovery = Recovery::new(1);
    send(&mut recovery, at(0), 1..=5);
    acked(&mut recovery, at(10), ack([3, 4, 5]));
    send(&mut recovery, at(10), 6..=6);
    assert_eq!(recovery.unacknowledged().count(), 3);
    recovery.clear();
    assert!(recovery.is_idle() && !recovery.has_lost());
    assert_eq!((recovery.deadline(), recovery.in_flight()), (None, 0));
    assert_eq!(acked(&mut recovery, at(20), ack(1..=6)), NOTHING);
    recovery.expire(at(100_000));
    assert_eq!(recovery.sent(at(100_000), 7), 7);
}
