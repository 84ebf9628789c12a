//! Counts the instructions of the engine and the decoders, and says where they have become more.
//!
//! `cases` is what is counted, in the `world` of an engine without sockets; `callgrind` counts; `stored` keeps the counts
//! that `verdict` compares with.

mod baseline;
mod callgrind;
mod cases;
mod comparison;
mod harness;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use baseline::Stored;
use comparison::Verdict;

/// Counts the instructions of upcalld's engine and decoders under valgrind, and compares with bench/micro.json
#[derive(Parser)]
#[command(
    name = "micro",
    after_help = "Exit status: 0 if nothing costs more than what is stored for it, and no cost grows with what is idle; else 1."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Internal>,

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
enum Internal {
    /// Do one case, by its name as --list shows it; `valgrind --tool=callgrind` shows what it spends its time with
    Run {
        /// Which
        name: String,
    },
}

fn main() -> ExitCode {
    match work(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("micro: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line says; says whether all is well.
fn work(arguments: &Arguments) -> io::Result<bool> {
    let mut cases = cases::all();
    if let Some(Internal::Run { name }) = &arguments.command {
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
        return Err(io::Error::other("only a release build counts: cargo run --release --bin micro"));
    }
    let Some(valgrind) = callgrind::version() else { return Ok(comparison::without_valgrind(cases.len())) };
    let machine = callgrind::machine(&valgrind);
    let counts = callgrind::count(&cases)?;
    if arguments.update {
        Stored::new(machine, &cases, &counts).write()?;
        println!("{} counts are stored in {}", counts.len(), baseline::FILE);
        return Ok(true);
    }
    let stored = Stored::read()?;
    Ok(Verdict::of(&stored, &machine, &cases, &counts).print())
}
