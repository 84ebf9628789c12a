//! The manual pages and the code agree: every command, option, key and exit status is on its page, and none is
//! there that does not exist.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use upcalld::cli;
use upcalld::config::SCHEMA;

const DAEMON: &str = include_str!("../../man/upcalld.8");
const CLIENT: &str = include_str!("../../man/upcall-client.1");
const CONFIGURATION: &str = include_str!("../../man/upcalld.toml.5");
const SHIPPED: &str = include_str!("../../config/upcalld.toml");
const README: &str = include_str!("../../README.md");
const STATUSES: &str = include_str!("../../src/exit.rs");

/// What a line of roff prints: without its macro, fonts, quotes around arguments, and escapes.
fn printed(line: &str) -> String {
    let (_, arguments) = line.split_once(' ').unwrap_or(("", line));
    let plain = arguments.replace("\\fR", "").replace("\\fB", "").replace("\\fI", "").replace("\\fP", "");
    // Alternating fonts join their arguments; what stands between quotes keeps its spaces.
    let mut joined = String::new();
    let mut quoted = false;
    for c in plain.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => {}
            c => joined.push(c),
        }
    }
    joined.replace("\\-", "-").replace("\\(dq", "\"")
}

/// The part of a page between the line that begins it and the next of the same or a higher rank.
fn section<'p>(page: &'p str, heading: &str) -> &'p str {
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let ends: &[&str] = if heading.starts_with(".SS") { &["\n.SS ", "\n.SH "] } else { &["\n.SH "] };
    let end = ends.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
    &rest[..end]
}

/// What is explained there: the lines behind `.TP`.
fn tags(section: &str) -> Vec<String> {
    section.split(".TP\n").skip(1).map(|item| printed(item.lines().next().unwrap())).collect()
}

/// The options of a command, as a page writes them.
fn options(command: &Command) -> Vec<String> {
    let mut command = command.clone();
    command.build();
    let options = command.get_arguments().filter(|option| !option.is_positional()).map(|option| {
        let short = option.get_short().map(|short| format!("-{short}"));
        let long = option.get_long().map(|long| format!("--{long}"));
        let names: Vec<String> = short.into_iter().chain(long).collect();
        let value = option.get_action().takes_values().then(|| option.get_value_names().unwrap()[0].to_string());
        std::iter::once(names.join(", ")).chain(value).collect::<Vec<_>>().join(" ")
    });
    sorted(options.collect())
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

/// The tags that are options.
fn explained(section: &str) -> Vec<String> {
    sorted(tags(section).into_iter().filter(|tag| tag.starts_with('-')).collect())
}

#[test]
fn the_daemons_options_are_on_its_page() {
    assert_eq!(explained(section(DAEMON, ".SH OPTIONS")), options(&cli::DaemonOptions::command()));
}

#[test]
fn the_clients_options_and_commands_are_on_its_page() {
    let client = cli::ClientOptions::command();
    assert_eq!(explained(section(CLIENT, ".SH OPTIONS")), options(&client));
    let commands = section(CLIENT, ".SH COMMANDS");
    let headings: Vec<&str> = commands.lines().filter_map(|line| line.strip_prefix(".SS ")).collect();
    let names: Vec<&str> = client.get_subcommands().map(Command::get_name).collect();
    assert_eq!(headings, names);
    for command in client.get_subcommands() {
        let here = section(CLIENT, &format!(".SS {}", command.get_name()));
        let mut wanted = options(command);
        // Every command has it; the page says so once.
        wanted.retain(|option| option != "-h, --help");
        assert_eq!(explained(here), wanted, "{}", command.get_name());
    }
}

/// The value that the shipped file shows for a key, which another test compares with the default.
fn default_of(table: &str, key: &str) -> Option<String> {
    let mut here = String::new();
    for line in SHIPPED.lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if line.starts_with('[') {
            here = line.trim_matches(['[', ']']).into();
        } else if here == table
            && let Some(value) = line.strip_prefix(&format!("{key} = "))
        {
            let value = value.split("  ").next().unwrap();
            return Some(value.into());
        }
    }
    None
}

#[test]
fn every_key_is_on_its_page_with_its_default() {
    let tables: Vec<&str> = CONFIGURATION.lines().filter_map(|line| line.strip_prefix(".SS ")).collect();
    let wanted =
        SCHEMA.map(|(table, _)| if table == "listener" { format!("[[{table}]]") } else { format!("[{table}]") });
    assert_eq!(tables, wanted);
    for ((table, keys), heading) in SCHEMA.iter().zip(tables) {
        let wanted = keys.iter().map(|key| match default_of(table, key) {
            // They are no defaults, but what is written there.
            _ if ["name", "transport", "address"].contains(key) => key.to_string(),
            Some(value) => format!("{key} = {value}"),
            None => key.to_string(),
        });
        let found = tags(section(CONFIGURATION, &format!(".SS {heading}")));
        assert_eq!(found, wanted.collect::<Vec<_>>(), "{heading}");
    }
}

#[test]
fn every_exit_status_is_on_a_page() {
    let numbers = |page| tags(section(page, ".SH EXIT STATUS"));
    let (daemon, client) = (numbers(DAEMON), numbers(CLIENT));
    let defined = STATUSES.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "));
    let defined: Vec<String> = defined.map(|(_, number)| number.to_owned()).collect();
    assert!(defined.len() > 8, "{defined:?}");
    for status in &defined {
        assert!(daemon.contains(status) || client.contains(status), "status {status} is on no page");
    }
    assert!(daemon.iter().chain(&client).all(|status| defined.contains(status)), "{daemon:?} {client:?}");
}

/// Every source file, read.
fn sources(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => sources(&entry, texts),
            false => texts.push(fs::read_to_string(entry).unwrap()),
        }
    }
}

#[test]
fn every_variable_that_is_read_is_on_a_page() {
    let mut texts = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
    let pages = [DAEMON, CLIENT].map(|page| section(page, ".SH ENVIRONMENT"));
    let mut read = 0;
    for line in texts.iter().flat_map(|text| text.lines()) {
        for call in ["env::var(", "env::var_os(", "take_variables(["] {
            let Some((_, arguments)) = line.split_once(call) else { continue };
            let names = arguments.split('"').skip(1).step_by(2);
            for name in
                names.filter(|name| !name.is_empty() && name.chars().all(|c| c == '_' || c.is_ascii_uppercase()))
            {
                assert!(pages.iter().any(|page| page.contains(name)), "{name}");
                read += 1;
            }
        }
    }
    assert!(read >= 10, "{read} are read");
}

#[test]
fn the_readme_names_every_page() {
    for page in ["upcalld", "upcalld.toml", "upcall-client"] {
        assert!(README.contains(&format!("`man {page}`")), "{page}");
    }
    assert!(README.contains("`upcall-protocol(7)`"));
}
