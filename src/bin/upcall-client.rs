//! `upcall-client`: the client. All it does is in the library.

use std::process::ExitCode;

use upcalld::cli;
use upcalld::commands;

fn main() -> ExitCode {
    match cli::parse_client() {
        Ok(options) => commands::run(&options),
        Err(status) => status,
    }
    .into()
}
