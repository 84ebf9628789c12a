//! Membership without a connection: joining, proving our address when we are asked to, renewing, leaving. Pure: no
//! socket, no clock of its own, and the randomness is the caller's.
//!
//! Where the daemon trusts our network, `join` registers us without a word. Elsewhere it answers with one line,
//! `join <cookie>`, and that line sent back registers and renews us. Nothing else is ever confirmed.

use std::time::{Duration, Instant};

use fastrand::Rng;

use upcall_wire::farewell::Farewell;

/// Asks to be registered. It is as long as the answer it may get, so that nobody can use the daemon to make more of
/// what they send in our name; the daemon ignores space at the end.
pub(super) const JOIN: &[u8] = b"join                 \n";

/// How often a registration is renewed. The lease is the daemon's secret; it is two minutes unless configured.
const RENEWAL: Duration = Duration::from_secs(20);

/// The first renewal comes after this, each further one after twice the time: a `join` may get lost, and a daemon that
/// is ending takes one that nobody will remember.
const FIRST_RENEWAL: Duration = Duration::from_secs(1);

const COOKIE_DIGITS: usize = 16;

/// What a datagram from the daemon is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// An upcall.
    Upcall(&'a [u8]),
    /// We are to prove that it reaches us: send this back.
    Challenge(&'a [u8]),
    /// It will send no more.
    Farewell(Farewell),
}

/// What is known of our registration.
#[derive(Debug)]
pub(super) struct Session {
    /// The proof that was last asked for; none where we are trusted, as far as we know.
    cookie: Option<Vec<u8>>,
    /// A `join` may still be answered.
    asked: bool,
    renewals: u32,
    renew_at: Instant,
    messages: u64,
    refused: u64,
}

impl Session {
    /// A session whose first [`JOIN`] has just been sent.
    pub(super) fn begun(now: Instant, random: &mut Rng) -> Session {
        let mut session = Session { cookie: None, asked: true, renewals: 0, renew_at: now, messages: 0, refused: 0 };
        session.schedule(now, random);
        session
    }

    /// When [`Session::renew`] is due.
    pub(super) fn renew_at(&self) -> Instant {
        self.renew_at
    }

    /// What to send to stay registered, where that is due. The bare word renews where we are trusted; elsewhere it
    /// fetches the next cookie, for none lives longer than two minutes.
    pub(super) fn renew(&mut self, now: Instant, random: &mut Rng) -> Option<&'static [u8]> {
        if now < self.renew_at {
            return None;
        }
        self.asked = true;
        self.renewals = self.renewals.saturating_add(1);
        self.schedule(now, random);
        Some(JOIN)
    }

    /// Up to a quarter early, so that many clients of one daemon do not keep step.
    fn schedule(&mut self, now: Instant, random: &mut Rng) {
        let factor = 1u32.checked_shl(self.renewals).unwrap_or(u32::MAX);
        let most = u64::try_from(FIRST_RENEWAL.saturating_mul(factor).min(RENEWAL).as_millis()).unwrap_or(u64::MAX);
        self.renew_at = now + Duration::from_millis(random.u64(most / 4 * 3..=most));
    }

    /// A message was sent as an input.
    pub(super) fn sent(&mut self) {
        self.messages += 1;
    }

    /// Takes a datagram from the daemon.
    pub(super) fn heard<'a>(&mut self, datagram: &'a [u8]) -> Heard<'a> {
        if let Some(cookie) = cookie(datagram) {
            if self.cookie.is_none() {
                // Whatever we said before was a stranger's.
                self.refused = self.messages;
            } else if !self.asked {
                // Nobody asks without reason: a message came when the daemon did not know us, as after its restart.
                self.refused = self.messages.min(self.refused + 1);
            }
            self.asked = false;
            self.cookie = Some(cookie.to_vec());
            return Heard::Challenge(datagram);
        }
        match Farewell::parse_datagram(datagram) {
            Some(farewell) => Heard::Farewell(farewell),
            None => Heard::Upcall(datagram),
        }
    }

    /// Whether the daemon wants proof from us.
    pub(super) fn is_proved(&self) -> bool {
        self.cookie.is_some()
    }

    /// How many messages were not taken, as far as the daemon let us know, and how many were sent.
    pub(super) fn refused(&self) -> (u64, u64) {
        (self.refused, self.messages)
    }

    /// What to leave with.
    pub(super) fn bye(&self) -> Vec<u8> {
        match &self.cookie {
            Some(cookie) => [b"bye ", cookie.as_slice(), b"\n"].concat(),
            None => b"bye\n".to_vec(),
        }
    }
}

/// The cookie of a challenge; nothing else of that form is an upcall of the usual formats.
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

    fn begun() -> (Session, Instant, Rng) {
        let (now, mut random) = (Instant::now(), Rng::with_seed(1));
        (Session::begun(now, &mut random), now, random)
    }

    #[test]
    fn asking_is_as_long_as_the_answer() {
        assert_eq!(JOIN.len(), FIRST.len());
        assert_eq!(JOIN.trim_ascii(), b"join");
    }

    #[test]
    fn a_challenge_is_sent_back_as_it_is_and_the_last_one_leaves() {
        let (mut session, ..) = begun();
        assert_eq!(session.bye(), b"bye\n");
        assert!(!session.is_proved());
        for challenge in [FIRST, SECOND] {
            assert_eq!(session.heard(challenge), Heard::Challenge(challenge));
        }
        assert!(session.is_proved());
        assert_eq!(session.bye(), b"bye fedcba9876543210\n");
    }

    #[test]
    fn everything_else_is_an_upcall_or_a_farewell() {
        let (mut session, ..) = begun();
        for upcall in [&b"haii\n"[..], b"join\n", b"join 0123456789abcdef", b"join 0123456789ABCDEF\n", b"a\nb"] {
            assert_eq!(session.heard(upcall), Heard::Upcall(upcall));
        }
        assert!(matches!(session.heard(b"upcalld: shutdown\n"), Heard::Farewell(_)));
    }

    #[test]
    fn what_was_said_before_the_proof_was_not_taken() {
        let (mut session, ..) = begun();
        session.sent();
        session.sent();
        session.heard(FIRST);
        assert_eq!(session.refused(), (2, 2));
        // The daemon answered each of them, too.
        session.heard(FIRST);
        session.heard(FIRST);
        assert_eq!(session.refused(), (2, 2));
    }

    #[test]
    fn being_asked_without_reason_is_a_message_lost_and_being_asked_with_one_is_not() {
        let (mut session, now, mut random) = begun();
        session.heard(FIRST);
        session.sent();
        assert_eq!(session.renew(now + RENEWAL, &mut random), Some(JOIN));
        session.heard(SECOND);
        assert_eq!(session.refused(), (0, 1));
        session.sent();
        session.heard(FIRST);
        assert_eq!(session.refused(), (1, 2));
    }

    proptest! {
        /// Early ones come quickly, and from then on never more than 20 s pass, nor fewer than 15.
        #[test]
        fn renewals_come_in_time(seed: u64) {
            let (mut now, mut random) = (Instant::now(), Rng::with_seed(seed));
            let mut session = Session::begun(now, &mut random);
            for renewal in 0..50 {
                let most = RENEWAL.min(FIRST_RENEWAL * 2u32.pow(renewal.min(10)));
                let pause = session.renew_at() - now;
                prop_assert!(pause <= most && pause >= most / 4 * 3 - Duration::from_millis(3), "{pause:?} of {most:?}");
                prop_assert_eq!(session.renew(session.renew_at() - Duration::from_millis(1), &mut random), None);
                now = session.renew_at();
                prop_assert_eq!(session.renew(now, &mut random), Some(JOIN));
            }
        }
    }
}
