//! `upcall-client`: its commands, built on the library of the same name.
//!
//! ```text
//! mod: dispatch
//! ├── text    without a command, and send and listen with --protocol text
//! ├── native  send, listen, exec, ping: each a loop around the client library
//! └── bench   many connections in one loop, in either protocol
//! terminal: standard output, prompt, signals      poll, reconnect, failure: shared by all
//! ```
//!
//! `bench` may use `text` and `native`, which do not know each other; `terminal` and the shared modules know none of
//! them.

mod bench;
mod failure;
mod native;
mod poll;
mod reconnect;
mod terminal;
mod text;

use upcall_wire::address::{Address, DEFAULT_PORT};

use crate::cli;
use crate::cli::{ClientProtocol, Command};
use crate::exit::Status;
use failure::Failure;
use terminal::output::{Output, notice};

/// Runs the command that the options name, reports a failure on stderr, and returns the exit status.
pub fn run(options: &cli::ClientOptions) -> Status {
    match dispatch(options) {
        Ok(()) => Status::Ok,
        Err(failure) => {
            notice(&failure);
            failure.status()
        }
    }
}

fn dispatch(options: &cli::ClientOptions) -> Result<(), Failure> {
    // An empty variable counts as unset, as it does for most programs.
    let environment = std::env::var_os("UPCALL_URL").filter(|url| !url.is_empty());
    let environment = environment.map(|url| url.to_string_lossy().into_owned());
    let address = options.target.address(environment.as_deref()).map_err(usage)?;
    match &options.command {
        None => text::interactive::run(&address),
        Some(Command::Send(options)) => {
            options.check().map_err(usage)?;
            refuse_url_as_message(options)?;
            match options.protocol {
                ClientProtocol::Native => native::send::run(&address, options),
                ClientProtocol::Text => text::send::run(&address, options),
            }
        }
        Some(Command::Listen(options)) => {
            options.check().map_err(usage)?;
            match options.protocol {
                ClientProtocol::Native => native::listen::run(&address, options),
                ClientProtocol::Text => text::listen::run(&address, options),
            }
        }
        Some(Command::Exec(options)) => native::exec::run(&address, options),
        Some(Command::Ping(options)) => native::ping::run(&address, options),
        Some(Command::Bench(options)) => bench::run(&address, options),
        Some(Command::Completions(options)) => completions(options),
    }
}

fn usage(message: String) -> Failure {
    Failure::new(Status::Usage, message)
}

/// Refuses a first message that is a URL: it was almost certainly meant to name the daemon.
fn refuse_url_as_message(options: &cli::SendOptions) -> Result<(), Failure> {
    let first = options.messages.first().and_then(|first| first.to_str());
    match first.filter(|first| Address::parse_url(first, Some(DEFAULT_PORT)).is_ok()) {
        Some(url) => Err(usage(format!(
            "the URL goes before the command: upcall-client {url} send …; to send it as a message, use -"
        ))),
        None => Ok(()),
    }
}

fn completions(options: &cli::CompletionsOptions) -> Result<(), Failure> {
    Output::stdout()?.print(&options.script()).map(drop)
}
