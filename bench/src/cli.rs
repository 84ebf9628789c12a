//! The command line: which works, which builds of upcalld, how long, and where the report goes.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::{Parser, Subcommand};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::floor;
use crate::measure::Pace;
use crate::report;
use crate::rounds;
use crate::servers::Host;
use crate::sys;
use crate::works;

/// Measures upcalld beside bare loops and the programs that people use for the same
#[derive(Parser)]
#[command(
    name = "upcall-bench",
    after_help = "Every message is checked at every receiver. Exit status: 0 if upcalld and the floors lost, \
                  doubled and reordered nothing, however fast they were; else 1."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Internal>,

    /// A few seconds for everything: shows that it works, not how fast
    #[arg(long)]
    quick: bool,

    /// Only works whose name contains this (repeatable); see --list
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,

    /// Only contestants whose name contains this (repeatable), and the floor
    #[arg(long, value_name = "PATTERN")]
    who: Vec<String>,

    /// Print the names of the works, and exit
    #[arg(long)]
    list: bool,

    /// A program to measure (repeatable: A, B, … in the same rounds) [default: builds the one of this tree]
    #[arg(long, value_name = "PATH")]
    upcalld: Vec<PathBuf>,

    /// How often everybody takes a turn [default: 5; with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,

    /// Milliseconds that a turn counts [default: 400; with --quick 30]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    duration: Option<u64>,

    /// Milliseconds that idle endpoints are watched [default: 15000; with --quick 30]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    idle: Option<u64>,

    /// The core that servers and load share [default: the last one that we may use]
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,

    /// Write everything that was measured here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Put the report between the two markers of this file, as docs/benchmark.md has them
    #[arg(long, value_name = "FILE")]
    update: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Internal {
    /// Serve as a floor, until killed (the benchmark starts these by itself)
    Floor(floor::Place),
}

/// Does what the command line says.
pub(crate) fn run() -> io::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(Internal::Floor(place)) = &arguments.command {
        floor::run(place)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut works = works::all();
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|part| name.contains(part));
    works.retain(|work| wanted(&work.name()) && !(arguments.quick && work.endpoints > 100));
    if arguments.list {
        works.iter().for_each(|work| println!("{}", work.name()));
        return Ok(ExitCode::SUCCESS);
    }
    if works.is_empty() {
        return Err(io::Error::other("--only leaves no work; --list shows their names"));
    }
    let builds = if arguments.upcalld.is_empty() { vec![build()?] } else { arguments.upcalld.clone() };
    let core = pin(arguments.core)?;
    // Inherited by the servers. Where it is not permitted, whatever else runs there disturbs more.
    sys::raise_priority();
    let duration = Duration::from_millis(arguments.duration.unwrap_or(if arguments.quick { 30 } else { 400 }));
    let idle = Duration::from_millis(arguments.idle.unwrap_or(if arguments.quick { 30 } else { 15_000 }));
    let pace = Pace { warm_up: duration / 4, duration, idle, window: 256, rate: 1000 };
    let rounds = usize::from(arguments.rounds.unwrap_or(if arguments.quick { 1 } else { 5 }));
    let host = Host::new(core, builds)?;
    let results = rounds::run(&host, &pace, works, rounds, &arguments.who);
    let text = report::markdown::write(&results, &host, &pace, rounds);
    println!("{text}");
    if let Some(file) = &arguments.json {
        std::fs::write(file, report::json::write(&results, &host, &pace)?)?;
    }
    if let Some(file) = &arguments.update {
        report::document::update(file, &text)?;
    }
    for error in &results.errors {
        eprintln!("upcall-bench: {error}");
    }
    Ok(if results.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Keeps us on one core, where the servers will be too: which.
fn pin(core: Option<usize>) -> io::Result<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let last = (0..CpuSet::count()).rev().find(|&core| allowed.is_set(core).unwrap_or(false));
    let core = core.or(last).unwrap_or(0);
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(|error| io::Error::other(format!("core {core}: {error}")))?;
    Ok(core)
}

/// Builds the daemon of this tree: where it is.
fn build() -> io::Result<PathBuf> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&tree).args(["build", "--release", "--locked", "--bin", "upcalld"]);
    let built = cargo.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8_lossy(&built.stdout);
    let artifacts = said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs = artifacts.filter_map(|artifact| artifact.get("executable")?.as_str().map(PathBuf::from));
    match programs.next() {
        Some(program) if built.status.success() => Ok(program),
        _ => Err(io::Error::other("upcalld cannot be built; --upcalld PATH measures one that is there")),
    }
}
