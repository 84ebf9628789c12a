//! The client. See upcall-client(1).

use std::process::ExitCode;

use upcalld::{cli, commands};

fn main() -> ExitCode {
    match cli::parse_client() {
        Ok(options) => commands::run(&options),
        Err(status) => status,
    }
    .into()
}
