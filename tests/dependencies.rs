//! Imports point one way (see `src/lib.rs`), and unsafe code stays where it is allowed. Reads the sources as text.

use std::fs;
use std::path::{Path, PathBuf};

/// Which of the crate's modules each module may know, besides itself.
const MAY_KNOW: [(&str, &[&str]); 10] = [
    ("address", &[]),
    ("exit", &[]),
    ("wire", &["address"]),
    ("engine", &["address", "wire"]),
    ("net", &["address"]),
    ("config", &["address", "wire", "engine"]),
    ("cli", &["address", "exit"]),
    ("client", &["address", "wire", "cli", "exit"]),
    ("daemon", &["address", "exit", "wire", "engine", "net", "config", "cli"]),
    ("bin", &["address", "exit", "wire", "engine", "net", "config", "cli", "client", "daemon"]),
];

/// The only module with unsafe code: system calls that no crate wraps well.
const UNSAFE: &str = "net/sys/";

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    for (path, source) in sources() {
        if path != Path::new("lib.rs") {
            wrong.extend(turned_arrows(&path, &source));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_its_rule() {
    let lib = fs::read_to_string(root().join("lib.rs")).expect("the library is there");
    let code = code_only(&lib);
    let declared = code.lines().filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';'));
    let modules: Vec<&str> = declared.collect();
    assert!(modules.len() >= 9, "the scanner reads lib.rs: {modules:?}");
    for module in modules {
        assert!(MAY_KNOW.iter().any(|(name, _)| *name == module), "{module} needs a line in MAY_KNOW");
    }
}

#[test]
fn unsafe_code_stays_in_one_module() {
    for (path, source) in sources() {
        if !path.starts_with(UNSAFE) {
            let lines = unsafe_lines(&source);
            assert!(lines.is_empty(), "unsafe code in src/{}, lines {lines:?}", path.display());
        }
    }
}

#[test]
fn the_scanner_finds_what_is_planted() {
    let found = |path: &str, source: &str| turned_arrows(Path::new(path), source);
    for (path, source) in [
        ("engine/log.rs", "use crate::net::Poll;"),
        ("engine/mod.rs", "use crate::{wire::format::Format, daemon};"),
        ("engine/mod.rs", "use crate::{\n    address::{Address, Host},\n    config::{Config, Listener},\n};"),
        ("engine.rs", "fn f() -> crate::config::Config { todo!() }"),
        ("wire/text.rs", "pub(in crate::engine) fn f() {}"),
        ("wire/text.rs", "use super::super::engine;"),
        ("address.rs", "use super::wire;"),
        ("client/mod.rs", "use crate::engine::Engine;"),
        ("daemon/run.rs", "use crate::client::Client;"),
        ("net/mod.rs", "mod tests { use crate::wire::reason::Reason; }"),
        ("net/mod.rs", "use crate :: wire;"),
        ("net/mod.rs", "let s = \"//\"; use crate::wire;"),
    ] {
        assert_eq!(found(path, source).len(), 1, "{path}: {source}");
    }
    for (path, source) in [
        ("engine/log.rs", "// use crate::net;\n/// As in [`crate::net`].\nuse crate::wire::{reason, text};"),
        ("engine/log.rs", "/* crate::net */ let s = \"crate::net\"; use super::registry;"),
        ("engine/log.rs", "use crate::engine::registry; pub(crate) fn f() { crate::trace!() }"),
        ("bin/upcalld.rs", "fn main() { upcalld::daemon::main() }"),
        ("daemon/mod.rs", "use crate::{address, cli, config, engine, exit, net, wire};"),
    ] {
        assert_eq!(found(path, source), Vec::<String>::new(), "{path}: {source}");
    }
    assert_eq!(unsafe_lines("// unsafe\nlet s = \"unsafe { }\";\nunsafe { f() }\n"), [3]);
    assert_eq!(unsafe_lines("#![allow(unsafe_code)]\n#![deny(unsafe_op_in_unsafe_fn)]\nlet unsafe_name = 'u';"), [1]);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file, with its path below `src`.
fn sources() -> Vec<(PathBuf, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).expect("a source file");
                found.push((path.strip_prefix(root()).expect("below src").to_owned(), source));
            }
        }
    }
    assert!(found.len() > 10, "the sources are found: {}", found.len());
    found
}

/// What in this file knows a module that it must not know, a line each.
fn turned_arrows(path: &Path, source: &str) -> Vec<String> {
    let first = path.iter().next().and_then(|part| part.to_str()).expect("a path");
    let module = first.strip_suffix(".rs").unwrap_or(first);
    let rule = MAY_KNOW.iter().find(|(name, _)| *name == module);
    let (_, allowed) = rule.unwrap_or_else(|| panic!("src/{first} has no rule"));
    let known = known_modules(&code_only(source));
    let wrong = known.into_iter().filter(|known| known != module && !allowed.contains(&known.as_str()));
    wrong.map(|known| format!("src/{}: {module} must not know {known}", path.display())).collect()
}

/// The modules of the crate that code without comments and strings names through `crate::` or a chain of `super::`.
fn known_modules(code: &str) -> Vec<String> {
    let words = words(code);
    let is = |at: usize, word: &str| words.get(at).is_some_and(|found| found == word);
    let mut known = Vec::new();
    for at in 0..words.len() {
        let path_begins = (is(at, "crate") || is(at, "super")) && is(at + 1, "::");
        if !path_begins {
            continue;
        }
        if is(at + 2, "{") {
            let mut depth = 0_usize;
            for (inner, word) in words.iter().enumerate().skip(at + 2) {
                match word.as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ if depth == 1 && (is(inner - 1, "{") || is(inner - 1, ",")) => known.push(word.clone()),
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        } else if let Some(next) = words.get(at + 2) {
            known.push(next.clone());
        }
    }
    // What is no module at the top is a macro, or something of the module itself.
    known.retain(|name| MAY_KNOW.iter().any(|(module, _)| module == name));
    known
}

/// Lines that open unsafe code or allow it.
fn unsafe_lines(source: &str) -> Vec<usize> {
    let code = code_only(source);
    let lines = code.lines().enumerate();
    let hits = lines.filter(|(_, line)| words(line).iter().any(|word| word == "unsafe" || word == "unsafe_code"));
    hits.map(|(index, _)| index + 1).collect()
}

/// Identifiers, `::`, and every other character that is not space, one by one.
fn words(code: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut inside = false;
    for c in code.chars() {
        let in_name = c.is_alphanumeric() || c == '_';
        match words.last_mut() {
            Some(word) if in_name && inside => word.push(c),
            Some(word) if c == ':' && word == ":" => word.push(c),
            _ if c.is_whitespace() => {}
            _ => words.push(c.into()),
        }
        inside = in_name;
    }
    words
}

/// The source with comments and the insides of strings blanked out; lines stay lines.
fn code_only(source: &str) -> String {
    let (mut code, mut rest) = (String::with_capacity(source.len()), source);
    while let Some(c) = rest.chars().next() {
        let (taken, blank) = match c {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), true),
            '/' if rest.starts_with("/*") => (rest.find("*/").map_or(rest.len(), |end| end + 2), true),
            'r' if raw_string(rest).is_some() && !code.ends_with(|c: char| c.is_alphanumeric() || c == '_') => {
                (raw_string(rest).unwrap_or(1), true)
            }
            '"' => (quoted(rest), true),
            '\'' => match character(rest) {
                Some(length) => (length, true),
                None => (1, false),
            },
            _ => (c.len_utf8(), false),
        };
        let (piece, behind) = rest.split_at(taken);
        if blank {
            code.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        } else {
            code.push_str(piece);
        }
        rest = behind;
    }
    code
}

/// The length of the string that begins here, quotes included.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the raw string that begins here, if one does.
fn raw_string(text: &str) -> Option<usize> {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    text[1 + hashes..].starts_with('"').then(|| {
        let end = format!("\"{}", "#".repeat(hashes));
        let body = 2 + hashes;
        text[body..].find(&end).map_or(text.len(), |at| body + at + end.len())
    })
}

/// The length of the character literal that begins here; `None` for a lifetime.
fn character(text: &str) -> Option<usize> {
    let inside = &text[1..];
    if inside.starts_with('\\') {
        return inside[2..].find('\'').map(|at| 1 + 2 + at + 1);
    }
    let c = inside.chars().next()?;
    inside[c.len_utf8()..].starts_with('\'').then(|| 1 + c.len_utf8() + 1)
}
