//! The completion scripts of both programs, generated from the definitions of their command lines.

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate};

use super::client::ClientOptions;
use super::completions::{CompletionsOptions, Program};
use super::daemon::DaemonOptions;

/// For zsh: drops a URL in front of the command, so that the command is completed as if it came first.
const SKIP_IN_ZSH: &str = "\
    # A URL goes before the command.
    if (( CURRENT > 2 )) && [[ $words[2] == *://* ]]; then
        words[2]=()
        (( CURRENT-- ))
    fi
";

/// The same for fish, whose variable `cmd` holds the words before the cursor.
const SKIP_IN_FISH: &str = "    # A URL goes before the command.
    string match -q '*://*' -- \"$cmd[1]\"
    and set -e cmd[1]
";

impl CompletionsOptions {
    /// Generates the script.
    pub fn script(&self) -> Vec<u8> {
        let (mut command, name) = match self.program {
            Program::UpcallClient => (without_url(ClientOptions::command()), "upcall-client"),
            Program::Upcalld => (DaemonOptions::command(), "upcalld"),
        };
        let mut script = Vec::new();
        generate(self.shell, &mut command, name, &mut script);
        match (self.shell, self.program) {
            // If the program's name has a hyphen, clap_complete 4.6 uses different names for a command in the code that
            // finds it and in the code that completes it.
            (Shell::Bash, Program::UpcallClient) => {
                edit(script, |s| s.replace("upcall__subcmd__client", "upcall__client"))
            }
            (Shell::Zsh, Program::UpcallClient) => edit(script, |s| insert(&s, "_upcall-client() {\n", SKIP_IN_ZSH)),
            (Shell::Fish, Program::UpcallClient) => edit(script, |s| insert(&s, "    set -e cmd[1]\n", SKIP_IN_FISH)),
            _ => script,
        }
    }
}

/// The command line without the URL in front. A URL cannot be completed, and the scripts would mistake the command for
/// it.
fn without_url(command: Command) -> Command {
    let options = command.get_arguments().filter(|argument| !argument.is_positional());
    Command::new("upcall-client")
        .version(env!("CARGO_PKG_VERSION"))
        .args(options.cloned().collect::<Vec<_>>())
        .subcommands(command.get_subcommands().cloned().collect::<Vec<_>>())
}

fn edit(script: Vec<u8>, change: impl FnOnce(String) -> String) -> Vec<u8> {
    change(String::from_utf8_lossy(&script).into_owned()).into_bytes()
}

/// Inserts text after the first occurrence of `anchor`.
fn insert(script: &str, anchor: &str, addition: &str) -> String {
    script.replacen(anchor, &format!("{anchor}{addition}"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_every_option() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            for (program, mut command) in
                [(Program::UpcallClient, ClientOptions::command()), (Program::Upcalld, DaemonOptions::command())]
            {
                command.build();
                let script = String::from_utf8(CompletionsOptions { shell, program }.script()).unwrap();
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

    #[test]
    fn a_url_before_the_command_is_skipped() {
        for (shell, addition) in [(Shell::Zsh, SKIP_IN_ZSH), (Shell::Fish, SKIP_IN_FISH)] {
            let script = CompletionsOptions { shell, program: Program::UpcallClient }.script();
            assert_eq!(String::from_utf8(script).unwrap().matches(addition).count(), 1, "{shell}");
        }
    }
}
