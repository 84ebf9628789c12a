//! The baseline: the counts to compare with, stored in micro.json beside the Cargo.toml of this crate.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::callgrind::Counts;
use crate::cases::Case;

/// Its path from the root of the repository, for messages.
pub(crate) const FILE: &str = "bench/micro.json";

/// Counts, and the machine for which they are valid.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// What the counts depend on besides the code; see `callgrind::machine`.
    pub(crate) machine: String,
    /// Instructions for one unit of each case.
    pub(crate) instructions: BTreeMap<String, f64>,
}

impl Baseline {
    /// A baseline of these counts, rounded to one decimal.
    pub(crate) fn new(machine: String, cases: &[Case], counts: &Counts) -> Baseline {
        let rounded = |count: f64| (count * 10.0).round() / 10.0;
        let instructions = cases.iter().filter_map(|case| Some((case.name(), rounded(*counts.get(&case.name())?))));
        Baseline { machine, instructions: instructions.collect() }
    }

    /// Reads the file.
    pub(crate) fn read() -> io::Result<Baseline> {
        let wrong =
            |error: &dyn std::fmt::Display| io::Error::other(format!("{FILE}: {error}; --update writes a new one"));
        let text = std::fs::read_to_string(path()).map_err(|error| wrong(&error))?;
        serde_json::from_str(&text).map_err(|error| wrong(&error))
    }

    /// Replaces the file.
    pub(crate) fn write(&self) -> io::Result<()> {
        std::fs::write(path(), serde_json::to_string_pretty(self)? + "\n")
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("micro.json")
}
