//! The gate in front of datagram endpoints: an address is registered only once it has proved that it receives what is
//! sent to it, and before that little is sent to it. This module knows no socket and no endpoint, and its memory has a
//! fixed size.
//!
//! A registry that sends to whatever source address a datagram claims would be an amplifier (RFC 8085 section 6). So an
//! unknown source is sent one short line, `join <cookie>`, and is registered when it sends that line back.

mod cookie;
mod limiter;

use std::hash::{BuildHasher, Hash, RandomState};

use upcall_wire::named_enum;

use crate::id::ListenerNumber;
use crate::time::Time;
use limiter::Limiter;

/// Headers of IPv4 and UDP, in bytes: what a datagram costs beyond its payload.
const HEADERS: usize = 28;

/// Before an address is proved, at most this many times the bytes received from it are sent to it, counted as IP
/// packets.
const AMPLIFICATION: usize = 3;

/// The size of a RETRY datagram, in bytes.
const RETRY: usize = 24;

/// What to do about a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Ignore and count it.
    Drop(Dropped),
    /// Answer with [`Gate::challenge`], or with a RETRY if it is native.
    Challenge,
    /// Register the address, or renew its lease.
    Join,
    /// Let the endpoint leave.
    Bye,
    /// Its payload is an input. If the address is trusted, register it, or renew its lease.
    Input,
}

named_enum! {
    /// Why a datagram was dropped, by the names that summaries show.
    pub enum Dropped {
        /// It is empty.
        Empty => "empty",
        /// It is larger than `upcall.max_message`.
        TooLarge => "too_large",
        /// It has no source address that can be answered.
        NoAddress => "no_address",
        /// Its source address cannot be a client: port 0, multicast, or one of the daemon itself.
        BadAddress => "bad_address",
        /// The rules of the listener do not admit its source.
        NotAllowed => "not_allowed",
        /// It answers a challenge wrongly, or too late.
        BadCookie => "bad_cookie",
        /// Its source sends inputs or requests challenges too often.
        RateLimited => "rate_limited",
        /// It is a command of a source that is not registered.
        NotRegistered => "not_registered",
        /// It is an input to a listener whose role is `output`.
        OutputOnly => "output_only",
        /// Its source would be one endpoint too many.
        Refused => "refused",
        /// It does not follow the listener's protocol.
        Protocol => "protocol",
        /// It carries the key of no endpoint, or not of this source.
        BadKey => "bad_key",
        /// Inputs were held, and there was no room to keep it until then.
        Busy => "busy",
        /// It is an upcall of another upcalld: two daemons must not send to each other forever.
        Looped => "looped",
    }
}

/// What the driver knows of the source of a datagram.
#[derive(Debug, Clone, Copy)]
pub struct DatagramSource<'a, A> {
    /// The listener that received it.
    pub listener: ListenerNumber,
    /// The address that the datagram claims to come from, the port included.
    pub address: &'a A,
    /// What the limits count together: the address, or its network.
    pub source: &'a A,
    /// The address needs no proof.
    pub trusted: bool,
    /// The address is registered.
    pub registered: bool,
}

/// Whether a payload is a command, which is never an input. From a trusted source only the bare words, and `join` with
/// a cookie, are commands.
pub fn is_command(payload: &[u8], trusted: bool) -> bool {
    let line = payload.trim_ascii();
    let bare = line == b"join" || line.eq_ignore_ascii_case(b"bye");
    bare || line.starts_with(b"join ") || (!trusted && line.starts_with(b"bye "))
}

/// Decides which datagrams may register or renew their source.
#[derive(Debug)]
pub struct Gate<S = RandomState> {
    /// Keyed with random numbers of the system, which are new at each start (SipHash-1-3, from the standard library).
    key: S,
    challenges: Limiter,
    joins: Limiter,
    inputs: Limiter,
}

impl Gate {
    /// A gate with a random key.
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
            // A client that loses a line or restarts needs a few challenges, not many.
            challenges: Limiter::new(10.0, 20.0),
            // Counted apart from challenges, so that a forged address cannot keep its owner out. A network of many
            // clients is one source.
            joins: Limiter::new(100.0, 1_000.0),
            // No other limit applies to a sender of datagrams.
            inputs: Limiter::new(1_000.0, 1_000.0),
        }
    }

    /// Decides what to do about a text datagram.
    pub fn judge<A: Hash>(&mut self, now: Time, from: &DatagramSource<'_, A>, payload: &[u8]) -> Verdict {
        if payload.is_empty() {
            return Verdict::Drop(Dropped::Empty);
        }
        let line = payload.trim_ascii();
        let proved = |cookie: Option<&[u8]>| cookie.is_some_and(|cookie| self.is_valid(now, from, cookie));
        if line.starts_with(b"join ") {
            return match (proved(line.strip_prefix(b"join ")), from.registered) {
                (true, true) => Verdict::Join,
                // A cookie is valid for a minute or two: it must not allow endless joining and leaving.
                (true, false) if self.joins.take(now, self.key.hash_one((from.listener, from.source))) => Verdict::Join,
                (true, false) => Verdict::Drop(Dropped::RateLimited),
                (false, _) => self.bad_cookie(now, from),
            };
        }
        if line.eq_ignore_ascii_case(b"bye") || (!from.trusted && line.starts_with(b"bye ")) {
            return match (from.registered, from.trusted || proved(line.strip_prefix(b"bye "))) {
                (true, true) => Verdict::Bye,
                (true, false) if line.len() > 3 => self.bad_cookie(now, from),
                (true, false) => self.challenge_if_allowed(now, from, payload),
                (false, _) => Verdict::Drop(Dropped::NotRegistered),
            };
        }
        match (line == b"join", from.trusted, from.registered) {
            (true, true, _) => Verdict::Join,
            (true, false, _) | (false, false, false) => self.challenge_if_allowed(now, from, payload),
            (false, true, _) => Verdict::Input,
            (false, false, true) if self.allows_input(now, from) => Verdict::Input,
            (false, false, true) => Verdict::Drop(Dropped::RateLimited),
        }
    }

    /// Decides what to do about a native datagram of `bytes` bytes that requests the registration of its source, or
    /// that its endpoint move there, with the cookie that it carries. Returns [`Verdict::Join`], [`Verdict::Challenge`]
    /// or [`Verdict::Drop`].
    pub fn prove<A: Hash>(
        &mut self,
        now: Time,
        from: &DatagramSource<'_, A>,
        cookie: Option<u64>,
        bytes: usize,
    ) -> Verdict {
        let proved = cookie.is_some_and(|cookie| self.matches(now, from, cookie));
        match (from.trusted, proved) {
            (true, _) => Verdict::Join,
            (_, true) if self.joins.take(now, self.key.hash_one((from.listener, from.source))) => Verdict::Join,
            (_, true) => Verdict::Drop(Dropped::RateLimited),
            // No answer is longer than the request.
            (_, false) if bytes < RETRY || !self.within_limits(now, from) => Verdict::Drop(Dropped::RateLimited),
            (_, false) => Verdict::Challenge,
        }
    }

    /// Whether one more answer to a mistake of this source is within the limits. Counts it.
    pub fn allows_answer<A: Hash>(&mut self, now: Time, from: &DatagramSource<'_, A>) -> bool {
        self.within_limits(now, from)
    }

    /// The cookie that proves the address of a native client.
    pub fn native_cookie<A: Hash>(&self, now: Time, from: &DatagramSource<'_, A>) -> u64 {
        cookie::present(&self.key, now, from.listener, from.address)
    }

    /// Whether one more input of this source is within the limits of sources that are not trusted. Counts it.
    pub fn allows_input<A: Hash>(&mut self, now: Time, from: &DatagramSource<'_, A>) -> bool {
        from.trusted || self.inputs.take(now, self.key.hash_one((from.listener, from.source)))
    }

    /// The line that proves an address when it is sent back.
    pub fn challenge<A: Hash>(&self, now: Time, from: &DatagramSource<'_, A>) -> String {
        format!("join {:016x}\n", self.native_cookie(now, from))
    }

    fn challenge_if_allowed<A: Hash>(&mut self, now: Time, from: &DatagramSource<'_, A>, payload: &[u8]) -> Verdict {
        const CHALLENGE: usize = "join 0123456789abcdef\n".len() + HEADERS;
        if CHALLENGE > AMPLIFICATION * (payload.len() + HEADERS) || !self.within_limits(now, from) {
            return Verdict::Drop(Dropped::RateLimited);
        }
        Verdict::Challenge
    }

    fn bad_cookie<A: Hash>(&mut self, now: Time, from: &DatagramSource<'_, A>) -> Verdict {
        // A guess costs as much as a request for a challenge.
        self.within_limits(now, from);
        Verdict::Drop(Dropped::BadCookie)
    }

    fn within_limits<A: Hash>(&mut self, now: Time, from: &DatagramSource<'_, A>) -> bool {
        self.challenges.take(now, self.key.hash_one((from.listener, from.source)))
    }

    /// Whether a cookie in text is valid.
    fn is_valid<A: Hash>(&self, now: Time, from: &DatagramSource<'_, A>, text: &[u8]) -> bool {
        cookie::parse(text).is_some_and(|given| self.matches(now, from, given))
    }

    /// Whether a cookie is that of the present window or of the one before.
    fn matches<A: Hash>(&self, now: Time, from: &DatagramSource<'_, A>, given: u64) -> bool {
        cookie::is_valid(&self.key, now, from.listener, from.address, given)
    }
}

#[cfg(test)]
mod tests;
