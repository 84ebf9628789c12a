//! Sizes, durations and file modes: parsing and printing.

use std::time::Duration;

/// The longest duration that can be configured.
const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The units of a size, in bytes. A size is printed with one of the first four: the largest that divides it.
const UNITS: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("KB", 1_000),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Parses a size such as `16MiB`, `60 KiB` or `4096B`, in bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (digits, unit) = (&trimmed[..end], trimmed[end..].trim_start());
    if digits.is_empty() || unit.starts_with(['.', ',', '_']) {
        return Err(format!("\"{text}\" is not a size; write a whole number with a unit, such as \"16MiB\""));
    }
    let factor = match UNITS.iter().find(|(known, _)| *known == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => {
            return Err(format!("\"{text}\" has no unit; write \"{digits}KiB\", or \"{digits}B\" for bytes"));
        }
        None => {
            let guess = UNITS.iter().find(|(known, _)| {
                known.eq_ignore_ascii_case(unit) || known.trim_end_matches("iB").eq_ignore_ascii_case(unit)
            });
            let advice = guess.map_or("it is one of B, KiB, MiB, GiB, KB, MB, GB".into(), |(known, _)| {
                format!("did you mean \"{digits}{known}\"?")
            });
            return Err(format!("unknown unit \"{unit}\" in \"{text}\"; {advice}"));
        }
    };
    let bytes = digits.parse().ok().and_then(|number: u64| number.checked_mul(factor));
    bytes.ok_or_else(|| format!("\"{text}\" is too large"))
}

/// Prints a size as it is read in the configuration.
pub fn print_size(bytes: usize) -> String {
    let bytes = bytes as u64;
    let fits = |factor: u64| bytes >= factor && bytes.is_multiple_of(factor);
    UNITS[..3]
        .iter()
        .find(|(_, factor)| fits(*factor))
        .map_or_else(|| format!("{bytes}B"), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

/// Parses a duration such as `30s` or `2min 5s`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    use humantime::DurationError as Error;
    let trimmed = text.trim();
    match humantime::parse_duration(trimmed) {
        // For humantime, M is a month, but users who write it mean minutes.
        Ok(_) if unit_is_capital_m(trimmed) => {
            Err(format!("M is months in \"{text}\"; for minutes write \"{}\"", trimmed.replace('M', "min")))
        }
        Ok(duration) if duration > MAX_DURATION => {
            Err(format!("\"{text}\" is longer than 30 days, the longest possible duration"))
        }
        Ok(duration) => Ok(duration),
        Err(Error::UnknownUnit { unit, .. }) if unit.is_empty() => {
            Err(format!("\"{text}\" has no unit; write \"{trimmed}s\""))
        }
        Err(Error::UnknownUnit { unit, .. }) => {
            Err(format!("unknown unit \"{unit}\" in \"{text}\"; it is one of ms, s, min, h, days"))
        }
        Err(Error::NumberOverflow) => Err(format!("\"{text}\" is out of range; the longest duration is 30 days")),
        Err(_) => Err(format!("\"{text}\" is not a duration; write for example \"30s\" or \"2min 5s\"")),
    }
}

/// Prints a duration as [`parse_duration`] reads it.
pub(super) fn print_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn unit_is_capital_m(text: &str) -> bool {
    text.split(|c: char| !c.is_alphabetic()).any(|unit| unit == "M")
}

/// Parses the mode of a file: octal digits.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    let octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| octal);
    match mode {
        Some(mode @ 0..=0o777) => Ok(mode),
        Some(_) => Err(format!("mode \"{text}\" is more than 0777; a socket has no other bits")),
        None => Err(format!("mode \"{text}\" is not a number of octal digits, such as \"0660\"")),
    }
}

/// Prints a mode as [`parse_mode`] reads it.
pub(super) fn print_mode(mode: u32) -> String {
    format!("{mode:04o}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("16MiB", 16 << 20), ("60 KiB", 60 << 10), ("4096B", 4096), ("7B", 7), (" 2GB ", 2_000_000_000), ("0B", 0)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, words) in [
            ("16M", "did you mean \"16MiB\"?"),
            ("16mib", "did you mean \"16MiB\"?"),
            ("1.5MiB", "whole number"),
            ("-1", "not a size"),
            ("", "not a size"),
            ("MiB", "not a size"),
            ("5 apples", "unknown unit \"apples\""),
            ("99999999999999999999B", "is too large"),
            ("99999999999999GiB", "is too large"),
        ] {
            let reason = parse_size(text).unwrap_err();
            assert!(reason.contains(words), "{text}: {reason}");
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [("30s", 30), ("2min 5s", 125), ("1h", 3600), ("30days", 2_592_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for (text, words) in [
            ("5", "\"5\" has no unit; write \"5s\""),
            ("5M", "M is months in \"5M\"; for minutes write \"5min\""),
            ("1h 5 M", "for minutes write \"1h 5 min\""),
            ("2months", "longer than 30 days"),
            ("31days", "longer than 30 days"),
            ("5 apples", "unknown unit \"apples\""),
            ("-5s", "not a duration"),
            ("", "not a duration"),
            ("99999999999999999999s", "out of range"),
        ] {
            let reason = parse_duration(text).unwrap_err();
            assert!(reason.contains(words), "{text}: {reason}");
        }
    }

    #[test]
    fn modes() {
        assert_eq!(parse_mode("0660"), Ok(0o660));
        assert_eq!(parse_mode("600"), Ok(0o600));
        for text in ["", "0o660", "0668", "+660", "1777", "99999999999"] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(
            bytes in any::<u64>(),
            shift in 0..40,
            nanos in 0..=MAX_DURATION.as_nanos(),
            mode in 0..=0o777u32,
        ) {
            let bytes = bytes >> 8 >> shift << shift;
            prop_assert_eq!(parse_size(&print_size(bytes as usize)), Ok(bytes));
            let duration = Duration::from_nanos(nanos as u64);
            prop_assert_eq!(parse_duration(&print_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_mode(&print_mode(mode)), Ok(mode));
        }
    }
}
