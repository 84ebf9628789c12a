//! The daemon. See upcalld(8).

use std::process::ExitCode;

use upcalld::{cli, daemon};

fn main() -> ExitCode {
    cli::parse().map_or_else(ExitCode::from, |options: cli::DaemonOptions| daemon::run(&options).into())
}
