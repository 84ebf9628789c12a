//! Counts the instructions of the engine and the decoders, and reports where they have increased.
//!
//! `cases` lists what is counted, on an engine without sockets (`harness`). `callgrind` counts, and `comparison`
//! compares with the stored `baseline`.

mod baseline;
mod callgrind;
mod cases;
mod comparison;
mod counting;
mod harness;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use baseline::Baseline;
use comparison::Comparison;

/// Counts the instructions of upcalld's engine and decoders under valgrind, and compares with bench/micro.json
#[derive(Parser)]
#[command(
    name = "micro",
    after_help = "Exit status: 0 if no case costs more than its stored count, and no cost grows with the number of \
                  endpoints; else 1."
)]
struct MicroArguments {
    #[command(subcommand)]
    command: Option<MicroCommand>,

    /// Store the counts instead of comparing them
    #[arg(long, conflicts_with = "only")]
    update: bool,

    /// Only cases whose name contains this (repeatable)
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,

    /// Print the names of the cases, and exit
    #[arg(long)]
    list: bool,
}

#[derive(Subcommand)]
enum MicroCommand {
    /// Run one case, by its name as --list shows it; `valgrind --tool=callgrind` shows where its instructions go
    Run {
        /// Name of the case
        name: String,
    },
}

fn main() -> ExitCode {
    match run(&MicroArguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("micro: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the command line. Returns whether no case has failed.
fn run(arguments: &MicroArguments) -> io::Result<bool> {
    let mut cases = cases::all();
    if let Some(MicroCommand::Run { name }) = &arguments.command {
        let Some(case) = cases.iter().find(|case| case.name() == *name) else {
            return Err(io::Error::other(format!("there is no case \"{name}\"; --list shows their names")));
        };
        println!("{}", case.run()?);
        return Ok(true);
    }
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|part| name.contains(part));
    cases.retain(|case| wanted(&case.name()));
    if arguments.list {
        cases.iter().for_each(|case| println!("{}", case.name()));
        return Ok(true);
    }
    if cases.is_empty() {
        return Err(io::Error::other("--only leaves no case; --list shows their names"));
    }
    if cfg!(debug_assertions) {
        return Err(io::Error::other("only a release build can be counted: cargo run --release --bin micro"));
    }
    let Some(valgrind) = callgrind::version() else { return Ok(comparison::without_valgrind(cases.len())) };
    let machine = callgrind::machine(&valgrind);
    let counts = callgrind::count(&cases)?;
    if arguments.update {
        Baseline::new(machine, &cases, &counts).write()?;
        println!("{} counts are stored in {}", counts.len(), baseline::FILE);
        return Ok(true);
    }
    let baseline = Baseline::read()?;
    Ok(Comparison::of(&baseline, &machine, &cases, &counts).print())
}
