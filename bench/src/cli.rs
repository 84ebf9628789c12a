//! The command line: which workloads, which builds of upcalld, how long, and where the report goes.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::{Parser, Subcommand};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::floor;
use crate::measure::MeasurementSettings;
use crate::report;
use crate::rounds;
use crate::servers::ServerHost;
use crate::sys;
use crate::workloads;

/// Measures upcalld beside bare loops and other programs for the same purpose
#[derive(Parser)]
#[command(
    name = "upcall-bench",
    after_help = "Every message is checked at every receiver. Exit status: 0 if upcalld and the floors lost, \
                  repeated and reordered nothing, however fast they were; else 1."
)]
struct BenchArguments {
    #[command(subcommand)]
    command: Option<BenchCommand>,

    /// Run everything in a few seconds: shows that it works, not how fast it is
    #[arg(long)]
    quick: bool,

    /// Only workloads whose name contains this (repeatable); see --list
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,

    /// Only contestants whose name contains this (repeatable), and the floor
    #[arg(long, value_name = "PATTERN")]
    who: Vec<String>,

    /// Print the names of the workloads, and exit
    #[arg(long)]
    list: bool,

    /// A build of upcalld to measure (repeatable: A, B, … in the same rounds) [default: build this tree]
    #[arg(long, value_name = "PATH")]
    upcalld: Vec<PathBuf>,

    /// How many turns each contestant takes [default: 5; with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,

    /// Milliseconds that a turn is measured [default: 400; with --quick 30]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    duration: Option<u64>,

    /// Milliseconds that idle endpoints are measured [default: 15000; with --quick 30]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    idle: Option<u64>,

    /// The core that servers and load share [default: the last one that is permitted]
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,

    /// Write all figures to this file, in JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Put the report between the two markers of this file, as docs/benchmark.md has them
    #[arg(long, value_name = "FILE")]
    update: Option<PathBuf>,
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Run a floor until it is killed (the benchmark does this itself)
    Floor(floor::FloorAddress),
}

/// Runs the command line.
pub(crate) fn run() -> io::Result<ExitCode> {
    let arguments = BenchArguments::parse();
    if let Some(BenchCommand::Floor(address)) = &arguments.command {
        floor::run(address)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut workloads = workloads::all();
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|part| name.contains(part));
    workloads.retain(|workload| wanted(&workload.name()) && !(arguments.quick && workload.endpoints > 100));
    if arguments.list {
        workloads.iter().for_each(|workload| println!("{}", workload.name()));
        return Ok(ExitCode::SUCCESS);
    }
    if workloads.is_empty() {
        return Err(io::Error::other("--only leaves no workload; --list shows their names"));
    }
    let builds = if arguments.upcalld.is_empty() { vec![build()?] } else { arguments.upcalld.clone() };
    let core = pin(arguments.core)?;
    // The servers inherit the priority. If this is not permitted, other programs on the core disturb the measurements
    // more.
    sys::raise_priority();
    let duration = Duration::from_millis(arguments.duration.unwrap_or(if arguments.quick { 30 } else { 400 }));
    let idle = Duration::from_millis(arguments.idle.unwrap_or(if arguments.quick { 30 } else { 15_000 }));
    let settings = MeasurementSettings { warm_up: duration / 4, duration, idle, window: 256, rate: 1000 };
    let rounds = usize::from(arguments.rounds.unwrap_or(if arguments.quick { 1 } else { 5 }));
    let host = ServerHost::new(core, builds)?;
    let results = rounds::run(&host, &settings, workloads, rounds, &arguments.who);
    let text = report::markdown::write(&results, &host, &settings, rounds);
    println!("{text}");
    if let Some(file) = &arguments.json {
        std::fs::write(file, report::json::write(&results, &host, &settings)?)?;
    }
    if let Some(file) = &arguments.update {
        report::document::update(file, &text)?;
    }
    for error in &results.errors {
        eprintln!("upcall-bench: {error}");
    }
    Ok(if results.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Pins this process to one core, which the servers will share. Returns the core.
fn pin(core: Option<usize>) -> io::Result<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let last = (0..CpuSet::count()).rev().find(|&core| allowed.is_set(core).unwrap_or(false));
    let core = core.or(last).unwrap_or(0);
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(|error| io::Error::other(format!("core {core}: {error}")))?;
    Ok(core)
}

/// Builds the daemon of this tree. Returns its path.
fn build() -> io::Result<PathBuf> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&tree).args(["build", "--release", "--locked", "--bin", "upcalld"]);
    let built = cargo.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit()).output()?;
    let messages = String::from_utf8_lossy(&built.stdout);
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs = artifacts.filter_map(|artifact| artifact.get("executable")?.as_str().map(PathBuf::from));
    match programs.next() {
        Some(program) if built.status.success() => Ok(program),
        _ => Err(io::Error::other("upcalld cannot be built; --upcalld PATH measures a build that exists")),
    }
}
