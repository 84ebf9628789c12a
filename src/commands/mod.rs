//! `upcall-client`: its commands, written on the library of the same name.
//!
//! ```text
//! programs: send, listen, exec, ping: each a loop around ─ native: the library ─ machine: the protocol, without sockets
//!
//! In text: interactive, send, listen put a source and a sink around one loop:
//!
//! source: what to send ─ exchange: one poll loop ─ sink: where upcalls go
//!                                 │
//!                      link: a way to the daemon
//!      stream ──────────────┘           └────────────── datagram
//!      connection: made in time                         mailbox: a socket, and whose datagrams count
//!      splitter: bytes → upcalls, tails, the farewell   session: join, prove, renew, leave; pacer: not too fast
//! ```
//!
//! In text the commands know no protocol: that the daemon speaks it is known to `source`, to `farewell` and to what is below
//! the link only. `bench` drives many connections at once and has a loop of its own.

mod bench;
mod failure;
mod native;
mod reconnect;
mod terminal;
mod text;

use std::io::{self, Write};

use crate::cli;
use crate::cli::{Command, Protocol};
use crate::exit::Status;
use failure::Failure;

/// Runs what the command line asks for, says on stderr what went wrong, and returns how to exit.
pub fn run(options: &cli::Client) -> Status {
    match dispatch(options) {
        Ok(()) => Status::Ok,
        Err(failure) => {
            failure::say(&failure);
            failure.status()
        }
    }
}

fn completions(options: &cli::Completions) -> Result<(), Failure> {
    match io::stdout().write_all(&options.script()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Status::Io, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

fn dispatch(options: &cli::Client) -> Result<(), Failure> {
    // Empty counts as unset, as it does for most variables.
    let environment = std::env::var_os("UPCALL_URL").filter(|url| !url.is_empty());
    let environment = environment.map(|url| url.to_string_lossy().into_owned());
    let address =
        options.target.address(environment.as_deref()).map_err(|message| Failure::new(Status::Usage, message))?;
    match &options.command {
        None => text::interactive::run(&address),
        Some(Command::Send(options)) => {
            options.check().map_err(|message| Failure::new(Status::Usage, message))?;
            match options.protocol {
                Protocol::Native => native::send::run(&address, options),
                Protocol::Text => text::send::run(&address, options),
            }
        }
        Some(Command::Listen(options)) => {
            options.check().map_err(|message| Failure::new(Status::Usage, message))?;
            match options.protocol {
                Protocol::Native => native::listen::run(&address, options),
                Protocol::Text => text::listen::run(&address, options),
            }
        }
        Some(Command::Exec(options)) => native::exec::run(&address, options),
        Some(Command::Ping(options)) => native::ping::run(&address, options),
        Some(Command::Bench(options)) => bench::run(&address, options),
        Some(Command::Completions(options)) => completions(options),
    }
}
