//! The gate: no registration without a cookie, and no amplification.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

type FixedKey = BuildHasherDefault<DefaultHasher>;

fn gate() -> Gate<FixedKey> {
    Gate::with_key(FixedKey::default())
}

fn at(seconds: u64) -> Time {
    Time(seconds * 1_000_000_000)
}

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 5000);

fn unknown(address: &SocketAddr) -> DatagramSource<'_, SocketAddr> {
    DatagramSource { listener: 1, address, source: address, trusted: false, registered: false }
}

#[test]
fn a_client_proves_its_address_with_the_line_it_gets() {
    let mut gate = gate();
    let from = unknown(&PEER);
    assert_eq!(gate.judge(at(0), &from, b"hello"), Verdict::Challenge);
    let line = gate.challenge(at(0), &from);
    assert!(line.len() <= 24, "{line}");
    for (seconds, verdict) in [(0, Verdict::Join), (119, Verdict::Join), (120, Verdict::Drop(Dropped::BadCookie))] {
        assert_eq!(gate.judge(at(seconds), &from, line.as_bytes()), verdict, "after {seconds} s");
    }
    assert_eq!(gate.judge(at(0), &from, line.trim_end().as_bytes()), Verdict::Join, "also without its newline");
}

#[test]
fn a_cookie_is_valid_for_one_address_on_one_listener_only() {
    let mut gate = gate();
    let line = gate.challenge(at(0), &unknown(&PEER));
    let bad = Verdict::Drop(Dropped::BadCookie);
    for other in ["192.0.2.1:5001", "192.0.2.2:5000", "[::ffff:192.0.2.1]:5000"] {
        assert_eq!(gate.judge(at(0), &unknown(&other.parse().unwrap()), line.as_bytes()), bad, "{other}");
    }
    let elsewhere = DatagramSource { listener: 2, ..unknown(&PEER) };
    assert_eq!(gate.judge(at(0), &elsewhere, line.as_bytes()), bad);
    assert_eq!(Gate::new().judge(at(0), &unknown(&PEER), line.as_bytes()), bad, "another daemon's key");
}

#[test]
fn trusted_sources_join_with_any_datagram() {
    let mut gate = gate();
    let mut from = DatagramSource { trusted: true, ..unknown(&PEER) };
    assert_eq!(gate.judge(at(0), &from, b"hello"), Verdict::Input);
    assert_eq!(gate.judge(at(0), &from, b"join\n"), Verdict::Join);
    assert_eq!(gate.judge(at(0), &from, b"bye"), Verdict::Drop(Dropped::NotRegistered));
    from.registered = true;
    assert_eq!(gate.judge(at(0), &from, b" Bye \n"), Verdict::Bye);
    assert_eq!(gate.judge(at(0), &from, b"bye bye"), Verdict::Input);
    assert_eq!(gate.judge(at(0), &from, b""), Verdict::Drop(Dropped::Empty));
    // Another daemon's challenge, reflected: never answered, never an input.
    assert_eq!(gate.judge(at(0), &from, b"join 0123456789abcdef\n"), Verdict::Drop(Dropped::BadCookie));
}

#[test]
fn other_sources_renew_and_leave_with_a_cookie_only() {
    let mut gate = gate();
    let from = DatagramSource { registered: true, ..unknown(&PEER) };
    let line = gate.challenge(at(0), &from);
    assert_eq!(gate.judge(at(0), &from, b"hello"), Verdict::Input);
    assert_eq!(gate.judge(at(0), &from, b"join"), Verdict::Challenge);
    assert_eq!(gate.judge(at(0), &from, b"bye"), Verdict::Challenge);
    assert_eq!(gate.judge(at(0), &from, b"bye 0123456789abcdef"), Verdict::Drop(Dropped::BadCookie));
    assert_eq!(gate.judge(at(0), &from, line.replace("join", "bye").as_bytes()), Verdict::Bye);
}

#[test]
fn the_inputs_of_a_source_that_is_not_trusted_are_limited() {
    let mut gate = gate();
    let from = DatagramSource { registered: true, ..unknown(&PEER) };
    let inputs = (0..5_000).filter(|_| gate.judge(at(5), &from, b"x") == Verdict::Input).count();
    assert_eq!(inputs, 1_000);
    let trusted = DatagramSource { trusted: true, ..from };
    assert!((0..5_000).all(|_| gate.judge(at(5), &trusted, b"x") == Verdict::Input));
}

#[test]
fn the_challenges_of_a_source_are_limited() {
    let mut gate = gate();
    let challenges = (0..1_000).filter(|_| gate.judge(at(5), &unknown(&PEER), b"x") == Verdict::Challenge).count();
    assert_eq!(challenges, 20);
    assert_eq!(gate.judge(at(6), &unknown(&PEER), b"x"), Verdict::Challenge);
}

proptest! {
    /// A command is never an input.
    #[test]
    fn no_command_is_an_input(payload in "(join|bye|BYE|x)?[ a-f0-9\n]{0,20}", trusted: bool, registered: bool) {
        let from = DatagramSource { trusted, registered, ..unknown(&PEER) };
        if gate().judge(at(0), &from, payload.as_bytes()) == Verdict::Input {
            prop_assert!(!is_command(payload.as_bytes(), trusted));
        }
    }

    /// No altered cookie is accepted.
    #[test]
    fn altered_cookies_are_bad(byte in 0usize..16, flip in 1u8..=255, seconds in 0u64..10_000) {
        let mut gate = gate();
        let from = unknown(&PEER);
        let mut line = gate.challenge(at(seconds), &from).into_bytes();
        line[5 + byte] ^= flip;
        let verdict = gate.judge(at(seconds), &from, &line);
        prop_assert!(verdict != Verdict::Join && verdict != Verdict::Input, "{verdict:?}");
    }

    /// Whatever an unknown source sends, at most three times its bytes are sent to it, and it never joins without a
    /// cookie.
    #[test]
    fn little_is_sent_to_unknown_sources(payload: Vec<u8>) {
        let mut gate = gate();
        let from = unknown(&PEER);
        let out = match gate.judge(at(0), &from, &payload) {
            Verdict::Challenge => gate.challenge(at(0), &from).len() + HEADERS,
            Verdict::Drop(_) => 0,
            other => panic!("{other:?}"),
        };
        prop_assert!(out <= AMPLIFICATION * (payload.len() + HEADERS));
    }
}
