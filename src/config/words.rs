//! The words of values with a fixed choice, and the correction of misspelt ones.

use std::str::FromStr;

use upcall_engine::{Audience, Policy};
use upcall_wire::address::Transport;
use upcall_wire::text::Framing;

use super::types::{Level, ListenerProtocol, ListenerRole, LogFormat, When};

/// A value that is written as one of a fixed choice of words.
pub(super) trait Word: Copy + PartialEq + 'static {
    /// The name of the choice in mistakes: always the key.
    const WHAT: &'static str;
    /// Every word with its meaning; the first is the example.
    const ALL: &'static [(&'static str, Self)];

    /// The word.
    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, meaning)| *meaning == self).map_or("", |(word, _)| word)
    }

    /// The meaning of a word, or the reason why it is wrong.
    fn from_word(word: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(known, _)| *known == word);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words = Self::ALL.iter().map(|(known, _)| *known);
            format!("unknown {} \"{word}\"; {}", Self::WHAT, did_you_mean(word, words))
        })
    }
}

macro_rules! words {
    ($($type:ty, $what:literal: $($word:literal = $meaning:ident),+;)+) => {$(
        impl Word for $type {
            const WHAT: &'static str = $what;
            const ALL: &'static [(&'static str, Self)] = &[$(($word, <$type>::$meaning)),+];
        }
    )+};
}

words! {
    Transport, "transport": "tcp" = Tcp, "udp" = Udp, "unix" = Unix, "unix-datagram" = UnixDatagram;
    ListenerProtocol, "protocol": "auto" = Auto, "text" = Text, "native" = Native;
    Framing, "framing": "auto" = Auto, "line" = Line, "chunk" = Chunk;
    ListenerRole, "role": "both" = Both, "input" = Input, "output" = Output;
    Audience, "deliver_to": "all" = All, "others" = Others, "sender" = Sender;
    Level, "log_level": "error" = Error, "warn" = Warn, "info" = Info, "debug" = Debug;
    LogFormat, "log_format": "auto" = Auto, "text" = Text, "json" = Json;
    When, "log_inputs": "auto" = Auto, "always" = Always, "never" = Never;
    Policy, "policy": "disconnect" = Disconnect, "skip" = Skip;
}

impl FromStr for When {
    type Err = String;

    fn from_str(word: &str) -> Result<When, String> {
        When::from_word(word)
    }
}

/// The known word that `word` was probably meant to be: it differs in at most two letters, and in less than half of
/// them.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // No known word is this long, and computing the distance of long words takes time.
    if word.chars().count() > 64 {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    let distance = |other: &str| strsim::osa_distance(&word, &other.replace('-', "_"));
    let (distance, other) = known.into_iter().map(|other| (distance(other), other)).min()?;
    (distance <= 2 && 2 * distance < other.chars().count()).then_some(other)
}

/// `did you mean "tcp"?`, or the whole choice where no word is near.
pub(super) fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> String {
    nearest(word, known.clone()).map_or_else(
        || format!("it is one of {}", known.into_iter().collect::<Vec<_>>().join(", ")),
        |near| format!("did you mean \"{near}\"?"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_recognised_and_others_are_not() {
        let known = ["tcp", "udp", "unix", "unix-datagram"];
        for (word, meant) in [
            ("tpc", Some("tcp")),
            ("TCP", Some("tcp")),
            ("unix_datagram", Some("unix-datagram")),
            ("uinx", Some("unix")),
            ("http", None),
            ("", None),
            ("quic", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }

    #[test]
    fn every_meaning_has_a_word() {
        for transport in Transport::ALL {
            assert_eq!(transport.word(), transport.name());
        }
        assert_eq!(When::Never.word().parse(), Ok(When::Never));
        assert_eq!("nevr".parse::<When>().unwrap_err(), "unknown log_inputs \"nevr\"; did you mean \"never\"?");
    }
}
