//! One log line, and how it is rendered.

use std::fmt;
use std::time::SystemTime;

use crate::config::Level;

/// The fields that a line may have. In the journal they begin with `UPCALLD_`.
const FIELDS: [&str; 6] = ["endpoint", "listener", "address", "peer", "reason", "sequence"];

/// The fields whose values are numbers in JSON.
const NUMBERS: [&str; 2] = ["endpoint", "sequence"];

/// How lines are rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// For a terminal: the message, with the level only where it is not `info`.
    Terminal,
    /// Time (RFC 3339, UTC) and level.
    Plain,
    /// For a journal that reads standard error and adds the time: the level as in sd-daemon(3).
    Prefixed,
    /// A JSON object.
    Json,
    /// The journal's own protocol, with the fields.
    Journal,
}

/// A line to be written.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) style: Style,
    pub(super) level: Level,
    pub(super) time: SystemTime,
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, String)>,
}

impl Line {
    pub(super) fn new(
        style: Style,
        level: Level,
        message: fmt::Arguments<'_>,
        fields: &[(&'static str, &dyn fmt::Display)],
    ) -> Line {
        debug_assert!(fields.iter().all(|(key, _)| FIELDS.contains(key)), "a field that FIELDS does not list");
        let message = OneLine(message).to_string();
        // The other styles have no fields.
        let wanted = if matches!(style, Style::Json | Style::Journal) { fields } else { &[] };
        let fields = wanted.iter().map(|(key, value)| (*key, OneLine(format_args!("{value}")).to_string()));
        Line { style, level, time: SystemTime::now(), message, fields: fields.collect() }
    }

    /// The bytes for standard error, newline included, or for the journal's socket.
    pub(super) fn render(&self, style: Style) -> Vec<u8> {
        let message = &self.message;
        let (name, priority) = match self.level {
            Level::Error => ("error", 3),
            Level::Warn => ("warn", 4),
            Level::Info => ("info", 6),
            Level::Debug => ("debug", 7),
        };
        let time = || humantime::format_rfc3339_millis(self.time);
        let mut text = match (style, self.level) {
            (Style::Terminal, Level::Info) => message.clone(),
            (Style::Terminal, _) => format!("{name}: {message}"),
            (Style::Plain, _) => format!("{} {name} {message}", time()),
            (Style::Prefixed, _) => format!("<{priority}>{message}"),
            (Style::Json, _) => {
                let mut text = format!("{{\"time\":\"{}\",\"level\":\"{name}\",\"message\":{}", time(), quote(message));
                for (key, value) in &self.fields {
                    let value = if NUMBERS.contains(key) { value.clone() } else { quote(value) };
                    text += &format!(",\"{key}\":{value}");
                }
                text + "}"
            }
            (Style::Journal, _) => {
                // No value has a newline, so the simple form is enough (systemd.io/JOURNAL_NATIVE_PROTOCOL).
                let mut text = format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER=upcalld\nMESSAGE={message}");
                for (key, value) in &self.fields {
                    text += &format!("\nUPCALLD_{}={value}", key.to_ascii_uppercase());
                }
                text
            }
        };
        text.push('\n');
        text.into_bytes()
    }
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A message without control characters. Text from clients is escaped before it gets here; this handles the rest, such
/// as a newline in the path of a socket.
struct OneLine<'a>(fmt::Arguments<'a>);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Filter<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Filter<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for (index, part) in text.split(char::is_control).enumerate() {
                    if index > 0 {
                        self.0.write_str("?")?;
                    }
                    self.0.write_str(part)?;
                }
                Ok(())
            }
        }
        fmt::write(&mut Filter(f), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(style: Style) -> String {
        let fields: [(&str, &dyn fmt::Display); 3] =
            [("endpoint", &7), ("listener", &"lab"), ("reason", &"a \"b\"\nC=d")];
        let mut line = Line::new(style, Level::Warn, format_args!("gone\nwith \\{}", 'x'), &fields);
        line.time = SystemTime::UNIX_EPOCH;
        String::from_utf8(line.render(style)).unwrap()
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(OneLine(format_args!("a\nb\x1b[1m{}", "c\u{85}")).to_string(), "a?b?[1mc?");
        for style in [Style::Terminal, Style::Plain, Style::Prefixed, Style::Json] {
            assert_eq!(rendered(style).find('\n'), Some(rendered(style).len() - 1), "{style:?}");
        }
    }

    #[test]
    fn the_styles() {
        assert_eq!(rendered(Style::Terminal), "warn: gone?with \\x\n");
        assert_eq!(rendered(Style::Plain), "1970-01-01T00:00:00.000Z warn gone?with \\x\n");
        assert_eq!(rendered(Style::Prefixed), "<4>gone?with \\x\n");
        assert_eq!(
            rendered(Style::Json),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warn\",\"message\":\"gone?with \\\\x\",\"endpoint\":7,\
             \"listener\":\"lab\",\"reason\":\"a \\\"b\\\"?C=d\"}\n"
        );
        assert_eq!(
            rendered(Style::Journal),
            "PRIORITY=4\nSYSLOG_IDENTIFIER=upcalld\nMESSAGE=gone?with \\x\nUPCALLD_ENDPOINT=7\nUPCALLD_LISTENER=lab\n\
             UPCALLD_REASON=a \"b\"?C=d\n"
        );
    }
}
