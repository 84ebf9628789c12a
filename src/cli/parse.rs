//! Parses the arguments of the running program, and prints what clap has to report.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::client::{ClientOptions, url_or_hint};
use crate::exit::Status;

/// Parses the program's arguments. If there is nothing to run, prints the help, the version or the mistake, and returns
/// the exit status.
pub fn parse<P: Parser>() -> Result<P, Status> {
    print_error(P::try_parse())
}

/// [`parse`] for `upcall-client`, where the first word may be a mistyped URL or a mistyped command.
pub fn parse_client() -> Result<ClientOptions, Status> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    print_error(parse_client_from(&arguments))
}

pub(super) fn parse_client_from(arguments: &[OsString]) -> Result<ClientOptions, clap::Error> {
    ClientOptions::try_parse_from(arguments).map_err(|error| {
        // If clap has taken the first word for a URL, it reports a mistake in what follows before the mistake in that
        // word.
        let first = arguments.get(1).and_then(|first| first.to_str()).filter(|first| !first.starts_with('-'));
        let mistyped = first.filter(|first| ClientOptions::command().find_subcommand(first).is_none());
        match (error.kind(), mistyped.map(|first| (first, url_or_hint(first)))) {
            (ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand, Some((first, Err(hint)))) => {
                ClientOptions::command().error(ErrorKind::ValueValidation, format!("'{first}': {hint}"))
            }
            _ => error,
        }
    })
}

fn print_error<P>(parsed: Result<P, clap::Error>) -> Result<P, Status> {
    parsed.map_err(|error| {
        // If the terminal is gone, there is no other place to print to.
        let _ = error.print();
        if error.use_stderr() { Status::Usage } else { Status::Ok }
    })
}
