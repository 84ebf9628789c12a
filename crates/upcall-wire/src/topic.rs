//! Topics, and the filters that select them. Pure functions on text.

/// The longest topic, in bytes.
pub const MAX_TOPIC: usize = 128;

/// The longest filter, in bytes: a topic and an asterisk.
pub const MAX_FILTER: usize = MAX_TOPIC + 1;

/// The most filters that one endpoint may have.
pub const MAX_FILTERS: usize = 64;

/// The most bytes that all filters of one endpoint may have together.
pub const MAX_FILTER_BYTES: usize = 4096;

/// Whether a text is a topic: 1 to 128 bytes of UTF-8, without control characters, and without an asterisk at the end,
/// which would make it look like a filter.
pub fn is_topic(text: &str) -> bool {
    (1..=MAX_TOPIC).contains(&text.len()) && !text.ends_with('*') && !text.chars().any(char::is_control)
}

/// Whether a text is a filter: a topic, or a prefix of topics followed by an asterisk. A lone asterisk matches
/// everything.
pub fn is_filter(text: &str) -> bool {
    match text.strip_suffix('*') {
        Some("") => true,
        Some(prefix) => prefix.len() <= MAX_TOPIC && !prefix.chars().any(char::is_control),
        None => is_topic(text),
    }
}

/// Whether a filter matches an input with this topic, which is empty for an input without one.
pub fn matches(filter: &str, topic: &str) -> bool {
    match filter.strip_suffix('*') {
        Some(prefix) => topic.starts_with(prefix),
        None => filter == topic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_short_and_printable() {
        for topic in ["a", "door/1", "tür", &"x".repeat(128), "*x"] {
            assert!(is_topic(topic) && is_filter(topic), "{topic}");
        }
        for bad in ["", "a\n", "\u{85}", "a*", &"x".repeat(129)] {
            assert!(!is_topic(bad), "{bad}");
        }
    }

    #[test]
    fn a_filter_is_exact_or_a_prefix() {
        assert!(matches("door", "door") && !matches("door", "doors") && !matches("door", ""));
        assert!(matches("door*", "doors") && matches("door*", "door") && !matches("door*", "do"));
        assert!(matches("*", "") && matches("*", "anything"));
        assert!(is_filter("*") && is_filter("door/*") && is_filter(&format!("{}*", "x".repeat(128))));
        assert!(!is_filter("") && !is_filter("a\t*") && !is_filter(&"x".repeat(129)));
    }
}
