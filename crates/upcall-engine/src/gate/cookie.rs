//! Cookies, which prove that a datagram address receives what is sent to it. A cookie is a keyed hash of the address and
//! the time, so nothing is kept of an address that has proved nothing.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use crate::id::ListenerNumber;
use crate::time::Time;

/// A cookie is valid at least this long, and at most twice as long.
const WINDOW: Duration = Duration::from_secs(60);

/// The present cookie of an address at a listener.
pub(super) fn present<A: Hash>(key: &impl BuildHasher, now: Time, listener: ListenerNumber, address: &A) -> u64 {
    cookie(key, window(now), listener, address)
}

/// Whether a cookie of an address at a listener is that of the present window or of the one before.
pub(super) fn is_valid<A: Hash>(
    key: &impl BuildHasher,
    now: Time,
    listener: ListenerNumber,
    address: &A,
    given: u64,
) -> bool {
    let window = window(now);
    let expected = [Some(window), window.checked_sub(1)];
    // Comparing integers takes the same time wherever they differ.
    expected.into_iter().flatten().any(|window| cookie(key, window, listener, address) == given)
}

/// Parses a cookie exactly as it is written: sixteen hexadecimal digits in lower case.
pub(super) fn parse(text: &[u8]) -> Option<u64> {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    if text.len() != 16 || !text.iter().all(is_digit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

fn cookie<A: Hash>(key: &impl BuildHasher, window: u64, listener: ListenerNumber, address: &A) -> u64 {
    key.hash_one((window, listener, address))
}

fn window(now: Time) -> u64 {
    now.since(Time(0)).as_secs() / WINDOW.as_secs()
}
