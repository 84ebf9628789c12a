//! The gate in front of datagram endpoints: an address is registered only once it has shown that what is sent to it
//! arrives, and before that it draws little. Knows no socket; what it remembers has a fixed size.
//!
//! A registry that pushes to whatever source address a datagram claims would be an amplifier (RFC 8085, section 6). So a
//! stranger gets one short line, `join <cookie>`, and is registered when it sends that line back.

mod limiter;

use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use upcall_wire::named_enum;

use crate::gate::limiter::Limiter;
use crate::id::ListenerNumber;
use crate::time::Time;

/// How long a cookie is valid at least; it is at most twice as long.
const WINDOW: Duration = Duration::from_secs(60);

/// Headers of IP and UDP, in bytes: what a datagram costs beyond its payload.
const HEADERS: usize = 28;

/// Before an address is proved, at most so many times the bytes go out as came in, counted as IP packets.
const AMPLIFICATION: usize = 3;

/// How long a RETRY is, in bytes.
const RETRY: usize = 24;

/// What a datagram asks for, once it is known whom it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing happens.
    Drop(Dropped),
    /// Answer with [`Gate::challenge`].
    Challenge,
    /// Register the address, or renew its lease.
    Join,
    /// It leaves.
    Bye,
    /// Its payload is an input. Registers the address, or renews its lease, if the address is trusted.
    Input,
}

named_enum! {
    /// Why a datagram was dropped: the names that summaries show.
    pub enum Dropped {
        /// It is empty.
        Empty => "empty",
        /// It is larger than `upcall.max_message`.
        TooLarge => "too_large",
        /// It has no source address that could be answered.
        NoAddress => "no_address",
        /// Its source address is one that nobody may have: port 0, multicast, one of our own.
        BadAddress => "bad_address",
        /// The rules of the listener do not admit its source.
        NotAllowed => "not_allowed",
        /// It answers a challenge wrongly, or too late.
        BadCookie => "bad_cookie",
        /// Its source asks too often.
        RateLimited => "rate_limited",
        /// It is a command of somebody who is not registered.
        NotRegistered => "not_registered",
        /// It is an input to a listener whose role is `output`.
        OutputOnly => "output_only",
        /// Its source would be one endpoint too many.
        Refused => "refused",
        /// It does not speak the listener's protocol, or not as it should.
        Protocol => "protocol",
        /// It says that it is of a session that is not there, or not its own.
        BadKey => "bad_key",
        /// Inputs waited, and there was no room for it to wait with them.
        Busy => "busy",
        /// It is an upcall of another upcalld: two of them must not talk to each other for ever.
        Looped => "looped",
    }
}

/// What the driver knows of the source of a datagram.
#[derive(Debug, Clone, Copy)]
pub struct DatagramSource<'a, A> {
    /// Where it came in.
    pub listener: ListenerNumber,
    /// The address that it claims to come from, port and all.
    pub address: &'a A,
    /// Whom the limits count it for: the address, or its network.
    pub source: &'a A,
    /// The address needs no proof.
    pub trusted: bool,
    /// The address is registered.
    pub registered: bool,
}

/// Whether a payload is a command, which is never an input. To the trusted, only the bare words are.
pub fn is_command(payload: &[u8], trusted: bool) -> bool {
    let line = payload.trim_ascii();
    let bare = line == b"join" || line.eq_ignore_ascii_case(b"bye");
    bare || line.starts_with(b"join ") || (!trusted && line.starts_with(b"bye "))
}

/// Judges datagrams.
#[derive(Debug)]
pub struct Gate<S = RandomState> {
    /// Keyed by the system's randomness, freshly at each start (SipHash-1-3, as the standard library has it).
    key: S,
    challenges: Limiter,
    joins: Limiter,
    inputs: Limiter,
}

impl Gate {
    /// A gate with a key of its own.
    pub fn new() -> Gate {
        Gate::with_key(RandomState::new())
    }
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}

impl<S: BuildHasher> Gate<S> {
    /// A gate with this key.
    pub fn with_key(key: S) -> Gate<S> {
        Gate {
            key,
            // Somebody who loses a line or restarts needs a few challenges, not many.
            challenges: Limiter::new(10.0, 20.0),
            // Counted apart, lest somebody who forges an address can keep its owner out. A network of many is one source.
            joins: Limiter::new(100.0, 1_000.0),
            // Nothing else slows a sender of datagrams down.
            inputs: Limiter::new(1_000.0, 1_000.0),
        }
    }

    /// Says what is to be done about a datagram.
    pub fn judge<A: Hash>(&mut self, now: Time, claim: &DatagramSource<'_, A>, payload: &[u8]) -> Verdict {
        if payload.is_empty() {
            return Verdict::Drop(Dropped::Empty);
        }
        let line = payload.trim_ascii();
        let proved = |cookie: Option<&[u8]>| cookie.is_some_and(|cookie| self.is_valid(now, claim, cookie));
        if line.starts_with(b"join ") {
            return match (proved(line.strip_prefix(b"join ")), claim.registered) {
                (true, true) => Verdict::Join,
                // One cookie is good for a minute: it must not fill the log with comings and goings.
                (true, false) if self.joins.allows(now, self.key.hash_one((claim.listener, claim.source))) => {
                    Verdict::Join
                }
                (true, false) => Verdict::Drop(Dropped::RateLimited),
                (false, _) => self.bad_cookie(now, claim),
            };
        }
        if line.eq_ignore_ascii_case(b"bye") || (!claim.trusted && line.starts_with(b"bye ")) {
            return match (claim.registered, claim.trusted || proved(line.strip_prefix(b"bye "))) {
                (true, true) => Verdict::Bye,
                (true, false) if line.len() > 3 => self.bad_cookie(now, claim),
                (true, false) => self.challenge_if_allowed(now, claim, payload),
                (false, _) => Verdict::Drop(Dropped::NotRegistered),
            };
        }
        match (line == b"join", claim.trusted, claim.registered) {
            (true, true, _) => Verdict::Join,
            (true, false, _) | (false, false, false) => self.challenge_if_allowed(now, claim, payload),
            (false, true, _) => Verdict::Input,
            (false, false, true) if self.allows_input(now, claim) => Verdict::Input,
            (false, false, true) => Verdict::Drop(Dropped::RateLimited),
        }
    }

    /// Says what is to be done about a native datagram of so many bytes that asks to be registered, or moved, to where it comes
    /// from; `cookie` is what it shows for that: [`Verdict::Join`], [`Verdict::Challenge`] or [`Verdict::Drop`].
    pub fn prove<A: Hash>(
        &mut self,
        now: Time,
        claim: &DatagramSource<'_, A>,
        cookie: Option<u64>,
        bytes: usize,
    ) -> Verdict {
        let shown = cookie.is_some_and(|cookie| self.matches(now, claim, cookie));
        match (claim.trusted, shown) {
            (true, _) => Verdict::Join,
            (_, true) if self.joins.allows(now, self.key.hash_one((claim.listener, claim.source))) => Verdict::Join,
            (_, true) => Verdict::Drop(Dropped::RateLimited),
            // No answer is longer than the question.
            (_, false) if bytes < RETRY || !self.within_limits(now, claim) => Verdict::Drop(Dropped::RateLimited),
            (_, false) => Verdict::Challenge,
        }
    }

    /// Whether a source may be told once more what is wrong with what it asks.
    pub fn allows_answer<A: Hash>(&mut self, now: Time, claim: &DatagramSource<'_, A>) -> bool {
        self.within_limits(now, claim)
    }

    /// What a native client has to show.
    pub fn native_cookie<A: Hash>(&self, now: Time, claim: &DatagramSource<'_, A>) -> u64 {
        self.cookie(window(now), claim)
    }

    /// Whether one more input of this source is within what a source may send that is not trusted.
    pub fn allows_input<A: Hash>(&mut self, now: Time, claim: &DatagramSource<'_, A>) -> bool {
        claim.trusted || self.inputs.allows(now, self.key.hash_one((claim.listener, claim.source)))
    }

    /// The line that proves an address once it is sent back.
    pub fn challenge<A: Hash>(&self, now: Time, claim: &DatagramSource<'_, A>) -> String {
        format!("join {:016x}\n", self.cookie(window(now), claim))
    }

    fn challenge_if_allowed<A: Hash>(&mut self, now: Time, claim: &DatagramSource<'_, A>, payload: &[u8]) -> Verdict {
        const CHALLENGE: usize = "join 0123456789abcdef\n".len() + HEADERS;
        if CHALLENGE > AMPLIFICATION * (payload.len() + HEADERS) || !self.within_limits(now, claim) {
            return Verdict::Drop(Dropped::RateLimited);
        }
        Verdict::Challenge
    }

    fn bad_cookie<A: Hash>(&mut self, now: Time, claim: &DatagramSource<'_, A>) -> Verdict {
        // Guessing costs what asking costs.
        let _ = self.within_limits(now, claim);
        Verdict::Drop(Dropped::BadCookie)
    }

    fn within_limits<A: Hash>(&mut self, now: Time, claim: &DatagramSource<'_, A>) -> bool {
        self.challenges.allows(now, self.key.hash_one((claim.listener, claim.source)))
    }

    /// Valid are the cookies of this window and the one before.
    fn is_valid<A: Hash>(&self, now: Time, claim: &DatagramSource<'_, A>, shown: &[u8]) -> bool {
        parse_cookie(shown).is_some_and(|shown| self.matches(now, claim, shown))
    }

    fn matches<A: Hash>(&self, now: Time, claim: &DatagramSource<'_, A>, shown: u64) -> bool {
        let window = window(now);
        let expected = [Some(window), window.checked_sub(1)];
        // Comparing numbers takes the same time wherever they differ.
        expected.into_iter().flatten().any(|window| self.cookie(window, claim) == shown)
    }

    fn cookie<A: Hash>(&self, window: u64, claim: &DatagramSource<'_, A>) -> u64 {
        self.key.hash_one((window, claim.listener, claim.address))
    }
}

fn window(now: Time) -> u64 {
    now.since(Time(0)).as_secs() / WINDOW.as_secs()
}

/// Exactly as it was written: sixteen hexadecimal digits in lower case.
fn parse_cookie(text: &[u8]) -> Option<u64> {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    if text.len() != 16 || !text.iter().all(is_digit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hash::{BuildHasherDefault, DefaultHasher};
    use std::net::SocketAddr;

    type FixedKey = BuildHasherDefault<DefaultHasher>;

    fn gate() -> Gate<FixedKey> {
        Gate::with_key(FixedKey::default())
    }

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000_000)
    }

    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 5000);

    fn stranger(address: &SocketAddr) -> DatagramSource<'_, SocketAddr> {
        DatagramSource { listener: 1, address, source: address, trusted: false, registered: false }
    }

    #[test]
    fn a_stranger_proves_its_address_by_the_line_it_gets() {
        let mut gate = gate();
        let claim = stranger(&PEER);
        assert_eq!(gate.judge(at(0), &claim, b"hello"), Verdict::Challenge);
        let line = gate.challenge(at(0), &claim);
        assert!(line.len() <= 24, "{line}");
        for (seconds, verdict) in [(0, Verdict::Join), (119, Verdict::Join), (120, Verdict::Drop(Dropped::BadCookie))] {
            assert_eq!(gate.judge(at(seconds), &claim, line.as_bytes()), verdict, "after {seconds} s");
        }
        assert_eq!(gate.judge(at(0), &claim, line.trim_end().as_bytes()), Verdict::Join, "also without its newline");
    }

    #[test]
    fn a_cookie_is_good_for_one_address_on_one_listener_only() {
        let mut gate = gate();
        let line = gate.challenge(at(0), &stranger(&PEER));
        let bad = Verdict::Drop(Dropped::BadCookie);
        for other in ["192.0.2.1:5001", "192.0.2.2:5000", "[::ffff:192.0.2.1]:5000"] {
            assert_eq!(gate.judge(at(0), &stranger(&other.parse().unwrap()), line.as_bytes()), bad, "{other}");
        }
        let elsewhere = DatagramSource { listener: 2, ..stranger(&PEER) };
        assert_eq!(gate.judge(at(0), &elsewhere, line.as_bytes()), bad);
        assert_eq!(Gate::new().judge(at(0), &stranger(&PEER), line.as_bytes()), bad, "another daemon's key");
    }

    #[test]
    fn the_trusted_join_with_whatever_they_say() {
        let mut gate = gate();
        let mut claim = DatagramSource { trusted: true, ..stranger(&PEER) };
        assert_eq!(gate.judge(at(0), &claim, b"hello"), Verdict::Input);
        assert_eq!(gate.judge(at(0), &claim, b"join\n"), Verdict::Join);
        assert_eq!(gate.judge(at(0), &claim, b"bye"), Verdict::Drop(Dropped::NotRegistered));
        claim.registered = true;
        assert_eq!(gate.judge(at(0), &claim, b" Bye \n"), Verdict::Bye);
        assert_eq!(gate.judge(at(0), &claim, b"bye bye"), Verdict::Input);
        assert_eq!(gate.judge(at(0), &claim, b""), Verdict::Drop(Dropped::Empty));
        // Another daemon's challenge, reflected: never answered, never an input.
        assert_eq!(gate.judge(at(0), &claim, b"join 0123456789abcdef\n"), Verdict::Drop(Dropped::BadCookie));
    }

    #[test]
    fn elsewhere_nothing_but_a_cookie_renews_or_leaves() {
        let mut gate = gate();
        let claim = DatagramSource { registered: true, ..stranger(&PEER) };
        let line = gate.challenge(at(0), &claim);
        assert_eq!(gate.judge(at(0), &claim, b"hello"), Verdict::Input);
        assert_eq!(gate.judge(at(0), &claim, b"join"), Verdict::Challenge);
        assert_eq!(gate.judge(at(0), &claim, b"bye"), Verdict::Challenge);
        assert_eq!(gate.judge(at(0), &claim, b"bye 0123456789abcdef"), Verdict::Drop(Dropped::BadCookie));
        assert_eq!(gate.judge(at(0), &claim, line.replace("join", "bye").as_bytes()), Verdict::Bye);
    }

    #[test]
    fn a_source_that_is_not_trusted_sends_so_many_inputs_a_second() {
        let mut gate = gate();
        let claim = DatagramSource { registered: true, ..stranger(&PEER) };
        let inputs = (0..5_000).filter(|_| gate.judge(at(5), &claim, b"x") == Verdict::Input).count();
        assert_eq!(inputs, 1_000);
        let trusted = DatagramSource { trusted: true, ..claim };
        assert!((0..5_000).all(|_| gate.judge(at(5), &trusted, b"x") == Verdict::Input));
    }

    #[test]
    fn one_source_is_not_challenged_for_ever() {
        let mut gate = gate();
        let challenges = (0..1_000).filter(|_| gate.judge(at(5), &stranger(&PEER), b"x") == Verdict::Challenge).count();
        assert_eq!(challenges, 20);
        assert_eq!(gate.judge(at(6), &stranger(&PEER), b"x"), Verdict::Challenge);
    }

    proptest! {
        /// What is taken for an input is no command.
        #[test]
        fn no_command_is_an_input(payload in "(join|bye|BYE|x)?[ a-f0-9\n]{0,20}", trusted: bool, registered: bool) {
            let claim = DatagramSource { trusted, registered, ..stranger(&PEER) };
            if gate().judge(at(0), &claim, payload.as_bytes()) == Verdict::Input {
                prop_assert!(!is_command(payload.as_bytes(), trusted));
            }
        }

        /// No altered cookie is ever taken.
        #[test]
        fn altered_cookies_are_bad(byte in 0usize..16, flip in 1u8..=255, seconds in 0u64..10_000) {
            let mut gate = gate();
            let claim = stranger(&PEER);
            let mut line = gate.challenge(at(seconds), &claim).into_bytes();
            line[5 + byte] ^= flip;
            let verdict = gate.judge(at(seconds), &claim, &line);
            prop_assert!(verdict != Verdict::Join && verdict != Verdict::Input, "{verdict:?}");
        }

        /// Whatever a stranger sends, it draws at most three times its bytes, and is never registered without a cookie.
        #[test]
        fn strangers_draw_little(payload: Vec<u8>) {
            let mut gate = gate();
            let claim = stranger(&PEER);
            let out = match gate.judge(at(0), &claim, &payload) {
                Verdict::Challenge => gate.challenge(at(0), &claim).len() + HEADERS,
                Verdict::Drop(_) => 0,
                other => panic!("{other:?}"),
            };
            prop_assert!(out <= AMPLIFICATION * (payload.len() + HEADERS));
        }
    }
}
