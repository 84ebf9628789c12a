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
mod commands;
mod datagram;
mod exchange;
mod failure;
mod interactive;
mod lines;
mod link;
mod listen;
mod output;
mod pacer;
mod programs;
mod prompt;
mod send;
mod session;
mod signals;
mod source;
mod splitter;
mod stream;

use std::io::{self, Write};

use crate::cli;
use crate::cli::{ClientProtocol, Command};
use crate::exit::Status;
use failure::Failure;

/// Runs what the command line asks for, says on stderr what went wrong, and returns how to exit.
pub fn run(options: &cli::ClientOptions) -> Status {
    match dispatch(options) {
        Ok(()) => Status::Ok,
        Err(failure) => {
            failure::say(&failure);
            failure.status()
        }
    }
}

fn completions(options: &cli::CompletionsOptions) -> Result<(), Failure> {
    match io::stdout().write_all(&options.script()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Status::Io, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

fn dispatch(options: &cli::ClientOptions) -> Result<(), Failure> {
    // Empty counts as unset, as it does for most variables.
    let environment = std::env::var_os("UPCALL_URL").filter(|url| !url.is_empty());
    let environment = environment.map(|url| url.to_string_lossy().into_owned());
    let address =
        options.target.address(environment.as_deref()).map_err(|message| Failure::new(Status::Usage, message))?;
    match &options.command {
        None => interactive::run(&address),
        Some(Command::Send(options)) => {
            options.check().map_err(|message| Failure::new(Status::Usage, message))?;
            match options.protocol {
                ClientProtocol::Native => programs::send::run(&address, options),
                ClientProtocol::Text => send::run(&address, options),
            }
        }
        Some(Command::Listen(options)) => {
            options.check().map_err(|message| Failure::new(Status::Usage, message))?;
            match options.protocol {
                ClientProtocol::Native => programs::listen::run(&address, options),
                ClientProtocol::Text => listen::run(&address, options),
            }
        }
        Some(Command::Exec(options)) => programs::exec::run(&address, options),
        Some(Command::Ping(options)) => programs::ping::run(&address, options),
        Some(Command::Bench(options)) => bench::run(&address, options),
        Some(Command::Completions(options)) => completions(options),
    }
}
