//! The counts that are kept, in micro.json beside this crate's Cargo.toml.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::callgrind::Counts;
use crate::cases::Case;

/// Where, as seen from the root of the tree.
pub(crate) const FILE: &str = "bench/micro.json";

/// What was counted, and on what.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// What counts depend on beside the code.
    pub(crate) machine: String,
    /// Instructions for one unit of each case.
    pub(crate) instructions: BTreeMap<String, f64>,
}

impl Stored {
    /// These counts, to one decimal.
    pub(crate) fn new(machine: String, cases: &[Case], counts: &Counts) -> Stored {
        let rounded = |count: f64| (count * 10.0).round() / 10.0;
        let instructions = cases.iter().filter_map(|case| Some((case.name(), rounded(*counts.get(&case.name())?))));
        Stored { machine, instructions: instructions.collect() }
    }

    /// What is kept.
    pub(crate) fn read() -> io::Result<Stored> {
        let wrong =
            |error: &dyn std::fmt::Display| io::Error::other(format!("{FILE}: {error}; --update writes it anew"));
        let text = std::fs::read_to_string(path()).map_err(|error| wrong(&error))?;
        serde_json::from_str(&text).map_err(|error| wrong(&error))
    }

    /// Keeps this instead of what was there.
    pub(crate) fn write(&self) -> io::Result<()> {
        std::fs::write(path(), serde_json::to_string_pretty(self)? + "\n")
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("micro.json")
}
