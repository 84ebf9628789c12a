//! docs/testing.md agrees with the tests: every id in the name of a test is in its table, and every path exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../../docs/testing.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The id that the name of a test function begins with: `L2` of `fn l2_burst_to_a_hundred`.
fn id(line: &str) -> Option<String> {
    let (id, _) = line.trim_start().strip_prefix("fn ")?.split_once('_')?;
    let number = id.strip_prefix(['l', 'f', 'b', 's'])?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then(|| id.to_uppercase())
}

fn ids_below(folder: &Path, ids: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            ids_below(&path, ids);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            ids.extend(fs::read_to_string(path).unwrap().lines().filter_map(id));
        }
    }
}

#[test]
fn every_id_is_explained() {
    let mut ids = BTreeSet::new();
    for folder in ["tests", "src", "crates"] {
        ids_below(&root().join(folder), &mut ids);
    }
    assert!(ids.len() > 40, "{ids:?}");
    let missing: Vec<&String> = ids.iter().filter(|id| !PAGE.contains(&format!("\n| {id} |"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_path_exists() {
    let words = PAGE.split('`').skip(1).step_by(2);
    let paths = words.filter(|word| ["tests/", "src/", "crates/", "fuzz/"].iter().any(|root| word.starts_with(root)));
    let missing: Vec<&str> = paths.filter(|path| !path.contains('*') && !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
