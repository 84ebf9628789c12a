//! What Cargo.toml does not enforce: which module of the root package may use which, where unsafe code may be, and the
//! module style. Reads the sources as text.
//!
//! Arrows between crates are lines of their Cargo.toml, and the library crates forbid unsafe code, so the compiler
//! holds both.

use std::fs;
use std::path::{Path, PathBuf};

/// Which modules of the root package, and which crates of the workspace, each module may use besides itself.
const MAY_USE: [(&str, &[&str]); 7] = [
    ("exit", &[]),
    ("net", &["upcall_wire"]),
    ("config", &["upcall_wire", "upcall_engine"]),
    ("cli", &["upcall_wire", "exit"]),
    ("commands", &["upcall_wire", "upcall_client", "cli", "exit"]),
    ("daemon", &["upcall_wire", "upcall_engine", "exit", "net", "config", "cli"]),
    ("bin", &["exit", "cli", "commands", "daemon"]),
];

/// Which modules of the daemon each of its modules may use: those of the layers below it.
const DAEMON_MAY_USE: [(&str, &[&str]); 12] = [
    ("tokens", &[]),
    ("log", &[]),
    ("origin", &[]),
    ("timers", &["tokens"]),
    ("context", &["log", "timers"]),
    ("listeners", &["tokens", "log", "context"]),
    ("traffic", &["log", "context", "listeners"]),
    ("streams", &["tokens", "log", "timers", "context", "listeners", "traffic"]),
    ("datagrams", &["tokens", "log", "context", "listeners", "traffic"]),
    ("rooms", &["tokens", "log", "context", "listeners", "traffic", "streams", "datagrams"]),
    ("service", &["log", "origin", "context", "listeners", "rooms"]),
    ("server", &["tokens", "log", "origin", "timers", "context", "listeners", "rooms", "service"]),
];

/// The only module with unsafe code: system calls that no crate wraps well.
const UNSAFE: &str = "net/sys/";

#[test]
fn imports_point_one_way() {
    let sources = sources();
    let wrong: Vec<String> = sources.iter().flat_map(|(path, source)| turned_arrows(path, source)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_layers_of_the_daemon_point_down() {
    let sources = sources();
    let wrong: Vec<String> = sources.iter().flat_map(|(path, source)| turned_layers(path, source)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stays_in_one_module() {
    for (path, source) in sources() {
        let lines = unsafe_lines(&source);
        assert!(path.starts_with(UNSAFE) || lines.is_empty(), "unsafe code in src/{}: {lines:?}", path.display());
    }
}

/// One module style: a module with submodules is `folder/mod.rs`, never `folder.rs` beside `folder/`.
#[test]
fn a_module_with_a_folder_is_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut wrong) = (vec![root.join("src"), root.join("crates"), root.join("tests")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                let beside = path.with_extension("rs");
                wrong.extend(beside.exists().then_some(beside));
                folders.push(path);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_scanner_finds_what_is_planted() {
    for (path, source) in [
        ("net/mod.rs", "use upcall_engine::Engine;"),
        ("net/mod.rs", "    use crate::config::Config;"),
        ("net/mod.rs", "fn f() -> upcall_client::Client { todo!() }"),
        ("commands/mod.rs", "let s = \"//\"; crate::daemon::run();"),
        ("config/mod.rs", "use crate::{cli, daemon};"),
        ("daemon/mod.rs", "pub(in crate::commands) fn f() {}"),
        ("bin/upcalld.rs", "use upcalld::config;"),
    ] {
        assert!(!turned_arrows(Path::new(path), source).is_empty(), "{path}: {source}");
    }
    for (path, source) in [
        ("net/mod.rs", "// use crate::config;\n/// As in [`crate::config`].\nuse upcall_wire::address::Address;"),
        ("net/mod.rs", "use crate::net::sys;"),
        ("bin/upcalld.rs", "use upcalld::{cli, daemon};"),
    ] {
        assert_eq!(turned_arrows(Path::new(path), source), Vec::<String>::new(), "{path}: {source}");
    }
    for (path, source) in [
        ("daemon/context.rs", "use super::listeners::Listeners;"),
        ("daemon/streams/mod.rs", "use super::datagrams;"),
        ("daemon/datagrams/send.rs", "crate::daemon::streams::f();"),
        ("daemon/log/queue.rs", "use crate::daemon::{context, timers};"),
    ] {
        assert!(!turned_layers(Path::new(path), source).is_empty(), "{path}: {source}");
    }
    for (path, source) in [
        ("daemon/mod.rs", "use server::Server;"),
        ("daemon/rooms.rs", "use super::streams::Streams; // super::service"),
        ("daemon/streams/read.rs", "use super::datagrams;"),
        ("net/mod.rs", "use super::server;"),
    ] {
        assert_eq!(turned_layers(Path::new(path), source), Vec::<String>::new(), "{path}: {source}");
    }
    assert_eq!(unsafe_lines("// unsafe\nunsafe { f() }\n#![allow(unsafe_code)]\nlet unsafe_name = 1;"), [2, 3]);
}

/// Every source file of the root package but the map (`lib.rs`), with its path below `src`.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && path != root.join("lib.rs") {
                let source = fs::read_to_string(&path).expect("a source file");
                found.push((path.strip_prefix(&root).expect("below src").to_owned(), source));
            }
        }
    }
    assert!(found.len() > 100, "only {} sources were found", found.len());
    found
}

/// What in this file uses a module or a crate that it must not use, a line each.
fn turned_arrows(path: &Path, source: &str) -> Vec<String> {
    let first = path.iter().next().and_then(|part| part.to_str()).expect("a path");
    let module = first.strip_suffix(".rs").unwrap_or(first);
    let (_, allowed) =
        MAY_USE.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("src/{first} has no rule"));
    let mut wrong = Vec::new();
    for line in source.lines().map(code_only) {
        for used in used_in(line) {
            if used != module && !allowed.contains(&used) {
                wrong.push(format!("src/{}: {module} must not use {used}: {}", path.display(), line.trim()));
            }
        }
    }
    wrong
}

/// What in this file of the daemon uses a module of the daemon that is not below it, a line each.
fn turned_layers(path: &Path, source: &str) -> Vec<String> {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    // `daemon/mod.rs` is above all of them.
    let (module, is_root) = match parts[..] {
        ["daemon", "mod.rs"] => return Vec::new(),
        ["daemon", file] => (file.strip_suffix(".rs").unwrap_or(file), true),
        ["daemon", folder, file] => (folder, file == "mod.rs"),
        ["daemon", folder, ..] => (folder, false),
        _ => return Vec::new(),
    };
    let (_, allowed) = DAEMON_MAY_USE
        .iter()
        .find(|(name, _)| *name == module)
        .unwrap_or_else(|| panic!("{module} of the daemon has no rule"));
    let mut wrong = Vec::new();
    for line in source.lines().map(code_only) {
        // In the file of a module itself, `super` is the daemon.
        let above = if is_root { names_after(line, "super::") } else { Vec::new() };
        for used in names_after(line, "crate::daemon::").into_iter().chain(above) {
            let is_module = DAEMON_MAY_USE.iter().any(|(name, _)| *name == used);
            if is_module && used != module && !allowed.contains(&used) {
                wrong.push(format!("src/{}: {module} must not use {used}: {}", path.display(), line.trim()));
            }
        }
    }
    wrong
}

/// The names behind each `prefix` of a line, in braces or not.
fn names_after<'l>(line: &'l str, prefix: &str) -> Vec<&'l str> {
    let mut names = Vec::new();
    for (_, rest) in line.match_indices(prefix).map(|(at, _)| line.split_at(at + prefix.len())) {
        match rest.strip_prefix('{').and_then(|list| list.split_once('}')) {
            Some((list, _)) => names.extend(list.split(',').map(|path| name_at(path.trim()))),
            None => names.push(name_at(rest)),
        }
    }
    names
}

/// The modules of the root package and the crates of the workspace that a line names.
fn used_in(line: &str) -> Vec<&str> {
    let mut used = names_after(line, "crate::");
    used.extend(names_after(line, "upcalld::"));
    used.extend(line.match_indices("upcall_").map(|(at, _)| name_at(&line[at..])));
    // Everything else is a macro, a variable, or a module of the module itself.
    used.retain(|name| {
        MAY_USE.iter().any(|(known, _)| known == name)
            || ["upcall_wire", "upcall_engine", "upcall_client"].contains(name)
    });
    used
}

/// The identifier that the text begins with.
fn name_at(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The line without its comment. `//` behind a quote is taken for a part of a string.
fn code_only(line: &str) -> &str {
    line.match_indices("//").find(|(at, _)| !line[..*at].contains('"')).map_or(line, |(at, _)| &line[..at])
}

/// Lines that open unsafe code or allow it.
fn unsafe_lines(source: &str) -> Vec<usize> {
    let words = |line: &str| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| word == "unsafe" || word == "unsafe_code")
    };
    let lines = source.lines().map(code_only).enumerate();
    lines.filter(|(_, line)| words(line)).map(|(index, _)| index + 1).collect()
}
