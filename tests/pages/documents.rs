//! README.md and docs/ follow the code: every reason and exit status is in its table, and every link has a target.

use std::fs;
use std::path::{Path, PathBuf};

use upcall_engine::Dropped;
use upcall_wire::frame::GapReason;
use upcall_wire::reason::{Reason, Refusal};

/// A file of the source tree.
fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The section of a document below this heading, up to the next one of the same rank.
fn section<'d>(document: &'d str, heading: &str) -> &'d str {
    let (_, rest) = document.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    rest.split("\n## ").next().unwrap()
}

/// The names in backquotes in the first cells of a section's tables.
fn first_cells(section: &str) -> Vec<&str> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap()).collect()
}

fn sorted(mut names: Vec<&str>) -> Vec<&str> {
    names.sort_unstable();
    names
}

#[test]
fn every_reason_is_in_its_table_and_no_other() {
    let left = Reason::ALL.map(Reason::name);
    let refused = Refusal::ALL.map(Refusal::name);
    let dropped = Dropped::ALL.map(Dropped::name);
    let gaps = GapReason::ALL.map(GapReason::name);
    let document = read("docs/reasons.md");
    for (heading, names) in [
        ("Why an endpoint left", &left[..]),
        ("Why a connection was refused", &refused),
        ("Why a datagram was dropped", &dropped),
        ("Why an upcall was not delivered", &gaps),
    ] {
        assert_eq!(sorted(first_cells(section(&document, heading))), sorted(names.to_vec()), "{heading}");
    }
}

#[test]
fn every_reason_is_on_the_daemons_page() {
    let page = read("man/upcalld.8");
    let (_, rest) = page.split_once("\n.SH REASONS\n").unwrap();
    let words: Vec<&str> = rest.split("\n.SH ").next().unwrap().split_whitespace().collect();
    let names = Reason::ALL.map(Reason::name).into_iter();
    let names = names.chain(Refusal::ALL.map(Refusal::name)).chain(Dropped::ALL.map(Dropped::name));
    for name in names {
        assert!(words.contains(&name), "{name}");
    }
}

#[test]
fn every_exit_status_is_in_its_table_and_no_other() {
    let (source, document) = (read("src/exit.rs"), read("docs/reasons.md"));
    let defined = source.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "));
    let defined: Vec<&str> = defined.map(|(_, number)| number).collect();
    let rows = section(&document, "Exit statuses").lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    let listed: Vec<&str> = rows.map(|(status, _)| status).filter(|status| status.parse::<u8>().is_ok()).collect();
    assert!(defined.len() > 8, "{defined:?}");
    assert_eq!(listed, defined);
}

/// README.md, CONTRIBUTING.md and everything in docs/, by path.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let all = docs.chain(["README.md", "CONTRIBUTING.md"].map(|name| root.join(name)));
    all.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The targets of a document's links, without blocks of code.
fn links(text: &str) -> Vec<&str> {
    let prose = text.split("\n```").step_by(2);
    prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| rest.split(')').next()).collect()
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|c| c.is_alphanumeric() || ['-', '_'].contains(c)).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_has_a_target() {
    let mut followed = 0;
    for (path, text) in documents() {
        for link in links(&text).into_iter().filter(|link| !link.starts_with("https://")) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let target_text = fs::read_to_string(&target);
            assert!(target_text.is_ok(), "{}: {link}", path.display());
            if let (Some(anchor), Ok(target_text)) = (anchor, target_text) {
                assert!(anchors(&target_text).iter().any(|known| known == anchor), "{}: {link}", path.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 20, "{followed} links");
}

/// The package and `make install` have README.md and docs/, and nothing else of the tree.
#[test]
fn installed_documents_link_to_installed_ones() {
    for (path, text) in documents().into_iter().filter(|(path, _)| !path.ends_with("CONTRIBUTING.md")) {
        let is_readme = path.ends_with("README.md");
        for link in links(&text).into_iter().filter(|link| !link.starts_with("https://") && !link.starts_with('#')) {
            let is_installed =
                if is_readme { link.starts_with("docs/") } else { link == "../README.md" || !link.contains('/') };
            assert!(is_installed, "{}: {link}", path.display());
        }
    }
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines < 250, "{lines} lines");
}

/// Every file below a folder of the source tree, by its path there; without what is built.
fn files_below(folder: &str, found: &mut Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap()) {
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true if path.ends_with("/target") => {}
            true => files_below(&path, found),
            false => found.push(path),
        }
    }
}

/// The words of a document in backquotes, without blocks of code.
fn quoted(text: &str) -> Vec<&str> {
    let prose = text.split("\n```").step_by(2);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

/// Documents name files, folders and modules by the end of their path: `log/ring` for that of the engine.
#[test]
fn every_file_that_is_named_is_there() {
    let mut files = vec!["Cargo.toml".to_owned(), "README.md".to_owned(), "Makefile".to_owned()];
    for folder in [".ci", "bench", "compose", "config", "crates", "docs", "fuzz", "man", "src", "systemd", "tests"] {
        files_below(folder, &mut files);
    }
    let is_there = |name: &str| {
        let endings = ["", ".rs", "/mod.rs"].map(|ending| format!("/{name}{ending}"));
        let within = format!("/{name}/");
        files
            .iter()
            .map(|file| format!("/{file}"))
            .any(|file| endings.iter().any(|ending| file.ends_with(ending)) || file.contains(&within))
    };
    let is_path = |word: &&str| {
        let is_letter = |c: char| c.is_ascii_alphanumeric() || ['/', '.', '-', '_'].contains(&c);
        word.contains('/') && !word.starts_with('/') && word.chars().all(is_letter)
    };
    let mut found = 0;
    for document in ["docs/architecture.md", "CONTRIBUTING.md"] {
        let text = read(document);
        let missing: Vec<&str> = quoted(&text).into_iter().filter(is_path).inspect(|_| found += 1).collect();
        let missing: Vec<&str> = missing.into_iter().filter(|word| !is_there(word.trim_end_matches('/'))).collect();
        assert!(missing.is_empty(), "{document} names {missing:?}");
    }
    assert!(found > 60, "{found} files are named");
}

/// Documents name functions as `Type::function`; CONTRIBUTING.md, which names their file beside them, by the plain name.
#[test]
fn every_function_that_is_named_is_there() {
    let mut files = Vec::new();
    for folder in ["crates", "src"] {
        files_below(folder, &mut files);
    }
    let sources: Vec<String> = files.iter().filter(|file| file.ends_with(".rs")).map(|file| read(file)).collect();
    let is_defined = |owner: &str, name: &str| {
        let definitions = [format!("fn {name}("), format!("fn {name}<")];
        sources.iter().any(|source| source.contains(owner) && definitions.iter().any(|fun| source.contains(fun)))
    };
    let text = read("docs/architecture.md");
    let names: Vec<(&str, &str)> = quoted(&text).into_iter().filter_map(|word| word.split_once("::")).collect();
    assert!(names.len() > 40, "{} functions are named", names.len());
    let is_function = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let missing: Vec<_> = names.iter().filter(|(owner, name)| is_function(name) && !is_defined(owner, name)).collect();
    assert!(missing.is_empty(), "{missing:?}");

    files_below("tests", &mut files);
    let is_there = |name: &str| is_defined("", name) || files.iter().any(|file| file.ends_with(&format!("/{name}.rs")));
    let text = read("CONTRIBUTING.md");
    let names = quoted(&text).into_iter().filter(|word| word.contains('_') && is_function(word));
    let (there, missing): (Vec<&str>, Vec<&str>) = names.partition(|name| is_there(name));
    assert!(missing.is_empty() && there.len() > 10, "{missing:?} of CONTRIBUTING.md are missing");
}
