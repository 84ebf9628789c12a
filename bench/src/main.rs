//! Measures upcalld beside bare loops and the programs that people use for the same, on one machine, in one run.
//!
//! `works` says what is measured and `contestants` who takes part; `rounds` lets them take turns; `measure` does it once:
//! `servers` starts the program, `load` with the `drivers` is its clients, `account` asks the system what it used. `results`,
//! `marks` and `report` say what came out.

mod cli;
mod contestants;
mod drivers;
mod floor;
mod load;
mod marks;
mod measure;
mod message;
mod process;
mod report;
mod results;
mod rounds;
mod servers;
mod sys;
mod workloads;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("upcall-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
