//! The options of `upcall-client completions`. The scripts themselves are made in `scripts`.

use clap::{Args, ValueEnum};
use clap_complete::Shell;

/// `upcall-client completions`
#[derive(Debug, Clone, Args)]
pub struct CompletionsOptions {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,

    /// The program whose command line is completed
    #[arg(value_enum, value_name = "PROGRAM", default_value_t = Program::UpcallClient)]
    pub program: Program,
}

/// One of the two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// The client
    UpcallClient,
    /// The daemon
    Upcalld,
}
