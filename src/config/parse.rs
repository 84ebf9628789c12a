//! Turns the text of a file into a [`Config`]: reads all tables except the listeners, and runs the rules between them.

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use upcall_engine::Patience;
use upcall_wire::format::{FIELDS, Format};

use super::mistake::{Mistakes, Report};
use super::read::{Field, Section, type_name};
use super::schema::{SCHEMA, TABLES, belongs_in};
use super::types::{Config, UpcallConfig};
use super::values::{COUNT, DURATION, DURATION_OR_FOREVER, FORMAT, LIFETIME, SIZE, word};
use super::words::nearest;
use super::{listener, syntax, units, validate};

/// The largest configuration file that is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// The range of `log.size`, in bytes.
const LOG_SIZE: std::ops::RangeInclusive<u64> = 1 << 20..=4 << 30;

/// Parses and validates the text of a configuration file. Every mistake is reported, under the file's name.
///
/// Looks up users and groups, checks whether the paths of Unix sockets are free, and reads token files. Changes
/// nothing.
pub fn parse(file_name: &str, text: &str) -> Result<Config, Mistakes> {
    if text.len() > MAX_FILE {
        return Err(Mistakes::of_file(file_name, too_large()));
    }
    let mut report = Report::new(file_name, text);
    let parsed = syntax::parse(text);
    report.syntax(parsed.errors, parsed.doubtful);
    let config = read(parsed.root.get_ref(), &mut report);
    report.finish().map_or(Ok(config), Err)
}

/// The mistake of a file that is larger than [`MAX_FILE`].
pub(super) fn too_large() -> String {
    format!("the file is larger than {}, the limit of a configuration file", units::print_size(MAX_FILE))
}

fn read(root: &DeTable<'_>, report: &mut Report<'_>) -> Config {
    Section::new("", root, &TABLES, |key| belongs_in(key, ""), report);
    let mut config = Config::default();
    if let Some(value) = root.get("listener") {
        config.listeners = listener::read_all(value, report);
    }
    let (format, max_message) = read_upcall(&mut config.upcall, section(root, "upcall", report), report);
    read_registry(&mut config, section(root, "registry", report), report);
    read_daemon(&mut config, section(root, "daemon", report), report);
    let log_size = read_log(&mut config, section(root, "log", report), report);
    let max_behind = read_slow_consumer(&mut config, section(root, "slow_consumer", report), report);
    let marks = validate::Marks { format, max_message, max_behind, log_size };
    validate::sizes(&config, &marks, report);
    config
}

fn section<'t>(root: &'t DeTable<'t>, name: &'static str, report: &mut Report<'_>) -> Section<'t> {
    let keys = SCHEMA.iter().find(|(table, _)| *table == name).map_or(&[][..], |(_, keys)| keys);
    match root.get(name) {
        None => Section::ABSENT,
        Some(value) => match value.get_ref().as_table() {
            Some(table) => Section::new(&format!("[{name}]"), table, keys, |key| belongs_in(key, name), report),
            None => not_a_table(name, value, report),
        },
    }
}

fn not_a_table(name: &str, value: &Spanned<DeValue<'_>>, report: &mut Report<'_>) -> Section<'static> {
    let found = type_name(value.get_ref());
    report.wrong(value.span().start, format!("\"{name}\" is a table, not {found}; write [{name}] and its keys below"));
    Section::ABSENT
}

fn read_upcall(upcall: &mut UpcallConfig, section: Section<'_>, report: &mut Report<'_>) -> (Field<()>, Field<()>) {
    let format = read_format(section.field("format", &FORMAT, report), report);
    let max_message = section.field("max_message", &SIZE, report);
    let marks = (format.mark(), max_message.mark());
    format.set(&mut upcall.format);
    section.field("deliver_to", &word(), report).set(&mut upcall.deliver_to);
    max_message.set(&mut upcall.max_message);
    let timeout = section.field("message_timeout", &DURATION_OR_FOREVER, report);
    let timeout = timeout.then(report, |timeout| match timeout {
        Some(limit) if limit.is_zero() => {
            Err("message_timeout of zero ends every message at once; for no limit write \"forever\"".into())
        }
        other => Ok(other),
    });
    timeout.set(&mut upcall.message_timeout);
    marks
}

/// Parses the template. A mistake in it is reported at its place inside the string, unless the string has escapes.
fn read_format(source: Field<String>, report: &mut Report<'_>) -> Field<Format> {
    let Field::Given { at, value: source } = source else {
        return if source.is_wrong() { Field::Wrong } else { Field::Absent };
    };
    match Format::parse(&source) {
        Ok(value) => Field::Given { at, value },
        Err(error) => {
            let verbatim = report.text().get(at + 1..).is_some_and(|inside| inside.starts_with(&source));
            let near = error.unknown.as_deref().and_then(|unknown| nearest(unknown, FIELDS));
            let reason = near.map_or(error.message.clone(), |near| {
                format!("unknown field {{{}}}; did you mean {{{near}}}?", error.unknown.unwrap_or_default())
            });
            report.wrong(if verbatim { at + 1 + error.offset } else { at }, format!("format: {reason}"));
            Field::Wrong
        }
    }
}

fn read_registry(config: &mut Config, section: Section<'_>, report: &mut Report<'_>) {
    section.field("max_endpoints", &COUNT, report).set(&mut config.registry.max_endpoints);
    section.field("lease", &LIFETIME, report).set(&mut config.registry.lease);
    section.field("session_ttl", &LIFETIME, report).set(&mut config.registry.session_ttl);
}

fn read_daemon(config: &mut Config, section: Section<'_>, report: &mut Report<'_>) {
    section.field("shutdown_grace", &DURATION, report).set(&mut config.daemon.shutdown_grace);
    section.field("log_level", &word(), report).set(&mut config.daemon.log_level);
    section.field("log_format", &word(), report).set(&mut config.daemon.log_format);
    section.field("log_inputs", &word(), report).set(&mut config.daemon.log_inputs);
}

fn read_log(config: &mut Config, section: Section<'_>, report: &mut Report<'_>) -> Field<()> {
    let size = section.field("size", &SIZE, report).then(report, |size| match LOG_SIZE.contains(&(size as u64)) {
        true => Ok(size),
        false => Err(format!("size of the log is {}; it has to be from 1MiB to 4GiB", units::print_size(size))),
    });
    let mark = size.mark();
    size.set(&mut config.log.size);
    mark
}

fn read_slow_consumer(config: &mut Config, section: Section<'_>, report: &mut Report<'_>) -> Field<()> {
    let max_behind = section.field("max_behind", &SIZE, report);
    let mark = max_behind.mark();
    max_behind.set(&mut config.slow_consumer.max_behind);
    let patience = section.field("patience", &DURATION_OR_FOREVER, report);
    if let Some(limit) = patience.value() {
        config.slow_consumer.patience = limit.map_or(Patience::Forever, Patience::Limited);
    }
    section.field("policy", &word(), report).set(&mut config.slow_consumer.policy);
    mark
}
