//! Prints a configuration as TOML, with every key, for `--print-config`.

use std::fmt::{Display, Write};

use upcall_engine::Patience;
use upcall_wire::escape::Escaped;

use super::schema::{LISTENER_KEYS, applies};
use super::types::{Config, ListenerConfig};
use super::units::{print_duration, print_mode, print_size};
use super::words::Word;

impl Config {
    /// The configuration as TOML that parses to an equal one: every key that applies; those that are not set are
    /// comments. It contains no secrets: for a token, it prints only the file name.
    pub fn to_toml(&self) -> String {
        let Config { listeners, upcall, registry, daemon, log, slow_consumer } = self;
        let mut page = TomlPage(String::new());
        listeners.iter().for_each(|listener| page.listener(listener));
        page.table("[upcall]");
        page.string("format", upcall.format.source());
        page.word("deliver_to", upcall.deliver_to);
        page.string("max_message", &print_size(upcall.max_message));
        page.string("message_timeout", &upcall.message_timeout.map_or("forever".into(), print_duration));
        page.table("[registry]");
        page.raw("max_endpoints", registry.max_endpoints);
        page.string("lease", &print_duration(registry.lease));
        page.string("session_ttl", &print_duration(registry.session_ttl));
        page.table("[daemon]");
        page.string("shutdown_grace", &print_duration(daemon.shutdown_grace));
        page.word("log_level", daemon.log_level);
        page.word("log_format", daemon.log_format);
        page.word("log_inputs", daemon.log_inputs);
        page.table("[log]");
        page.string("size", &print_size(log.size));
        page.table("[slow_consumer]");
        page.string("max_behind", &print_size(slow_consumer.max_behind));
        let patience = match slow_consumer.patience {
            Patience::Limited(limit) => print_duration(limit),
            Patience::Forever => "forever".into(),
        };
        page.string("patience", &patience);
        page.word("policy", slow_consumer.policy);
        page.0
    }
}

struct TomlPage(String);

impl TomlPage {
    fn listener(&mut self, listener: &ListenerConfig) {
        self.table("[[listener]]");
        for key in LISTENER_KEYS.into_iter().filter(|key| applies(key, &listener.address)) {
            match key {
                "name" => self.string(key, &listener.name),
                "transport" => self.word(key, listener.address.transport()),
                "address" => self.string(key, &listener.address.place()),
                "protocol" => self.word(key, listener.protocol),
                "framing" => self.word(key, listener.framing),
                "role" => self.word(key, listener.role),
                "open" => self.raw(key, listener.open),
                "history" => self.raw(key, listener.history),
                "dual_stack" => self.raw(key, listener.dual_stack),
                "allow" => self.list(key, &listener.allow),
                "deny" => self.list(key, &listener.deny),
                "max_endpoints" => self.optional(key, listener.max_endpoints),
                "max_per_source" => self.optional(key, listener.max_per_source),
                "mode" => self.string(key, &print_mode(listener.mode)),
                "group" => self.optional(key, listener.group),
                "allow_users" => self.raw(key, format_args!("{:?}", listener.allow_users)),
                "allow_groups" => self.raw(key, format_args!("{:?}", listener.allow_groups)),
                "trusted" => self.list(key, &listener.trusted),
                "token_file" => {
                    self.optional(key, listener.token.as_ref().map(|token| quote(&token.path().to_string_lossy())));
                }
                other => debug_assert!(false, "{other} is not printed"),
            }
        }
    }

    fn table(&mut self, header: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.line(format_args!("{gap}{header}"));
    }

    fn raw(&mut self, key: &str, value: impl Display) {
        self.line(format_args!("{key} = {value}"));
    }

    fn string(&mut self, key: &str, value: &str) {
        self.raw(key, quote(value));
    }

    fn word<T: Word>(&mut self, key: &str, value: T) {
        self.string(key, value.word());
    }

    fn list<T: ToString>(&mut self, key: &str, values: &[T]) {
        let quoted: Vec<String> = values.iter().map(|value| quote(&value.to_string())).collect();
        self.raw(key, format_args!("[{}]", quoted.join(", ")));
    }

    fn optional(&mut self, key: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.raw(key, value),
            None => self.line(format_args!("# {key} is not set")),
        }
    }

    fn line(&mut self, text: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{text}");
    }
}

/// A TOML string on one line, safe to show on a terminal.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() || !c.is_ascii() && needs_escape(c) => {
                let _ = write!(quoted, "\\U{:08X}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Whether a log line would escape this character, because a terminal may interpret it.
fn needs_escape(character: char) -> bool {
    let mut bytes = [0; 4];
    let text = character.encode_utf8(&mut bytes);
    Escaped(text.as_bytes()).to_string() != *text
}
