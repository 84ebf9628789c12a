//! Registration by text datagrams: joining, proving our address on request, renewing, leaving. Pure; the caller passes
//! the time and the random numbers.
//!
//! If the daemon trusts our network, `join` registers us without an answer. Otherwise the daemon answers with one line,
//! `join <cookie>`, and that line sent back registers and renews us. Nothing else is ever confirmed.

use std::time::{Duration, Instant};

use fastrand::Rng;
use upcall_wire::farewell::Farewell;

/// The request to be registered. It is as long as the longest answer to it, so that a sender that forges our address
/// cannot use the daemon to amplify traffic. The daemon ignores the space at the end.
pub(in crate::commands) const JOIN: &[u8] = b"join                 \n";

/// The longest time between two renewals. The text protocol does not announce the lease; its default is two minutes.
const RENEWAL: Duration = Duration::from_secs(20);

/// The first renewal follows after this time, and each further one after twice the time of the one before: a `join` may
/// be lost, and a daemon that is shutting down may still accept one and forget it.
const FIRST_RENEWAL: Duration = Duration::from_secs(1);

const COOKIE_DIGITS: usize = 16;

/// A datagram from the daemon.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::commands) enum TextDatagram<'a> {
    /// An upcall.
    Upcall(&'a [u8]),
    /// A challenge: it must be sent back to prove that the daemon's datagrams reach us.
    Challenge(&'a [u8]),
    /// The daemon will send no more.
    Farewell(Farewell),
}

/// The state of our registration, as far as it is known.
#[derive(Debug)]
pub(in crate::commands) struct Membership {
    /// The cookie of the last challenge; `None` if we are trusted, as far as we know.
    cookie: Option<Vec<u8>>,
    /// Whether an answer to a `join` may still arrive.
    awaiting_answer: bool,
    renewals: u32,
    renew_at: Instant,
    messages: u64,
    refused: u64,
}

impl Membership {
    /// A membership whose first [`JOIN`] has just been sent.
    pub(in crate::commands) fn joined(now: Instant, random: &mut Rng) -> Membership {
        let mut membership =
            Membership { cookie: None, awaiting_answer: true, renewals: 0, renew_at: now, messages: 0, refused: 0 };
        membership.schedule(now, random);
        membership
    }

    /// When [`Membership::renew`] is due.
    pub(in crate::commands) fn renew_at(&self) -> Instant {
        self.renew_at
    }

    /// The datagram to send to stay registered, if it is due. A `join` renews us if we are trusted; otherwise it
    /// requests the next cookie, because a cookie is valid for at most two minutes.
    pub(in crate::commands) fn renew(&mut self, now: Instant, random: &mut Rng) -> Option<&'static [u8]> {
        if now < self.renew_at {
            return None;
        }
        self.awaiting_answer = true;
        self.renewals = self.renewals.saturating_add(1);
        self.schedule(now, random);
        Some(JOIN)
    }

    /// Schedules the next renewal, up to a quarter early, so that many clients of one daemon do not synchronize.
    fn schedule(&mut self, now: Instant, random: &mut Rng) {
        let factor = 1u32.checked_shl(self.renewals).unwrap_or(u32::MAX);
        let most = u64::try_from(FIRST_RENEWAL.saturating_mul(factor).min(RENEWAL).as_millis()).unwrap_or(u64::MAX);
        self.renew_at = now + Duration::from_millis(random.u64(most / 4 * 3..=most));
    }

    /// A message was sent as an input.
    pub(in crate::commands) fn note_sent(&mut self) {
        self.messages += 1;
    }

    /// Handles a datagram from the daemon.
    pub(in crate::commands) fn receive<'a>(&mut self, datagram: &'a [u8]) -> TextDatagram<'a> {
        if let Some(cookie) = cookie(datagram) {
            if self.cookie.is_none() {
                // We were not registered, so the messages sent so far were not accepted.
                self.refused = self.messages;
            } else if !self.awaiting_answer {
                // The challenge answers no `join`, so it answers a message: the daemon did not know us, as after its
                // restart.
                self.refused = self.messages.min(self.refused + 1);
            }
            self.awaiting_answer = false;
            self.cookie = Some(cookie.to_vec());
            return TextDatagram::Challenge(datagram);
        }
        match Farewell::parse_datagram(datagram) {
            Some(farewell) => TextDatagram::Farewell(farewell),
            None => TextDatagram::Upcall(datagram),
        }
    }

    /// Whether the daemon has asked for proof of our address.
    pub(in crate::commands) fn needs_proof(&self) -> bool {
        self.cookie.is_some()
    }

    /// The number of messages that the daemon did not accept, as far as its challenges show, and the number sent.
    pub(in crate::commands) fn refused(&self) -> (u64, u64) {
        (self.refused, self.messages)
    }

    /// The datagram that ends the registration.
    pub(in crate::commands) fn bye(&self) -> Vec<u8> {
        match &self.cookie {
            Some(cookie) => [b"bye ", cookie.as_slice(), b"\n"].concat(),
            None => b"bye\n".to_vec(),
        }
    }
}

/// The cookie of a challenge. An upcall in any of the usual formats does not have this form.
fn cookie(datagram: &[u8]) -> Option<&[u8]> {
    let cookie = datagram.strip_prefix(b"join ")?.strip_suffix(b"\n")?;
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (cookie.len() == COOKIE_DIGITS && cookie.iter().all(is_digit)).then_some(cookie)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;
    use proptest::prelude::*;

    const FIRST: &[u8] = b"join 0123456789abcdef\n";
    const SECOND: &[u8] = b"join fedcba9876543210\n";

    fn joined() -> (Membership, Instant, Rng) {
        let (now, mut random) = (Instant::now(), Rng::with_seed(1));
        (Membership::joined(now, &mut random), now, random)
    }

    #[test]
    fn a_request_is_as_long_as_its_answer() {
        assert_eq!(JOIN.len(), FIRST.len());
        assert_eq!(JOIN.trim_ascii(), b"join");
    }

    #[test]
    fn a_challenge_is_sent_back_unchanged_and_the_last_cookie_leaves() {
        let (mut membership, ..) = joined();
        assert_eq!(membership.bye(), b"bye\n");
        assert!(!membership.needs_proof());
        for challenge in [FIRST, SECOND] {
            assert_eq!(membership.receive(challenge), TextDatagram::Challenge(challenge));
        }
        assert!(membership.needs_proof());
        assert_eq!(membership.bye(), b"bye fedcba9876543210\n");
    }

    #[test]
    fn everything_else_is_an_upcall_or_a_farewell() {
        let (mut membership, ..) = joined();
        for upcall in [&b"haii\n"[..], b"join\n", b"join 0123456789abcdef", b"join 0123456789ABCDEF\n", b"a\nb"] {
            assert_eq!(membership.receive(upcall), TextDatagram::Upcall(upcall));
        }
        assert!(matches!(membership.receive(b"upcalld: shutdown\n"), TextDatagram::Farewell(_)));
    }

    #[test]
    fn messages_before_the_proof_are_refused() {
        let (mut membership, ..) = joined();
        membership.note_sent();
        membership.note_sent();
        membership.receive(FIRST);
        assert_eq!(membership.refused(), (2, 2));
        // The daemon answered each of them, too.
        membership.receive(FIRST);
        membership.receive(FIRST);
        assert_eq!(membership.refused(), (2, 2));
    }

    #[test]
    fn a_challenge_that_answers_no_join_counts_as_a_lost_message() {
        let (mut membership, now, mut random) = joined();
        membership.receive(FIRST);
        membership.note_sent();
        assert_eq!(membership.renew(now + RENEWAL, &mut random), Some(JOIN));
        membership.receive(SECOND);
        assert_eq!(membership.refused(), (0, 1));
        membership.note_sent();
        membership.receive(FIRST);
        assert_eq!(membership.refused(), (1, 2));
    }

    proptest! {
        /// The first renewals follow quickly; later, 15 to 20 s pass between two of them.
        #[test]
        fn renewals_come_in_time(seed: u64) {
            let (mut now, mut random) = (Instant::now(), Rng::with_seed(seed));
            let mut membership = Membership::joined(now, &mut random);
            for renewal in 0..50 {
                let most = RENEWAL.min(FIRST_RENEWAL * 2u32.pow(renewal.min(10)));
                let pause = membership.renew_at() - now;
                prop_assert!(pause <= most && pause >= most / 4 * 3 - Duration::from_millis(3), "{pause:?}");
                prop_assert_eq!(membership.renew(membership.renew_at() - Duration::from_millis(1), &mut random), None);
                now = membership.renew_at();
                prop_assert_eq!(membership.renew(now, &mut random), Some(JOIN));
            }
        }
    }
}
