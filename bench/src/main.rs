//! Measures upcalld, bare loops, and other programs for the same purpose, on one machine in one run.
//!
//! `workloads` lists what is measured and `contestants` which programs take part. `rounds` runs them in turns.
//! `measure` makes one measurement: `servers` starts the program, `load` and `drivers` are its clients, and `process`
//! reads from the system what it used. `results` computes medians and ratios, `marks` compares them with what upcalld
//! must reach, and `report` prints them.

mod cli;
mod contestants;
mod drivers;
mod figures;
mod floor;
mod load;
mod marks;
mod measure;
mod message;
mod numbers;
mod process;
mod programs;
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
