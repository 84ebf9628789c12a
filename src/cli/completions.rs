//! `upcall-client completions`: the scripts that complete both programs' command lines, made from their definitions.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

use super::{Client, Daemon};

/// `upcall-client completions`
#[derive(Debug, Clone, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,

    /// The program whose command line is to be completed
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

impl Completions {
    /// The script.
    pub fn script(&self) -> Vec<u8> {
        let mut script = Vec::new();
        let (mut command, name) = match self.program {
            Program::UpcallClient => (Client::command(), "upcall-client"),
            Program::Upcalld => (Daemon::command(), "upcalld"),
        };
        generate(self.shell, &mut command, name, &mut script);
        script
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_every_option() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            for (program, mut command) in
                [(Program::UpcallClient, Client::command()), (Program::Upcalld, Daemon::command())]
            {
                command.build();
                let script = String::from_utf8(Completions { shell, program }.script()).unwrap();
                let below = command.get_subcommands().flat_map(clap::Command::get_arguments);
                for option in command.get_arguments().chain(below).filter_map(clap::Arg::get_long) {
                    assert!(script.contains(option), "{shell} {program:?}: --{option}");
                }
                for subcommand in command.get_subcommands() {
                    assert!(script.contains(subcommand.get_name()), "{shell}: {}", subcommand.get_name());
                }
            }
        }
    }
}
