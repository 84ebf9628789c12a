//! The client library, and `upcall-client`, which is written on it.
//!
//! A [`Client`] is a registered endpoint that speaks the native protocol (upcall-protocol(7)) over TCP, UDP, Unix stream or
//! Unix datagram sockets. It blocks, and needs no async runtime. Inputs are confirmed by receipts and sent once, whatever
//! happens to the connection; upcalls come in order, without duplicates, and what is missing is announced as a gap; a
//! connection that was lost is made again, and the session goes on where it was.
//!
//! Send, and hear:
//!
//! ```
//! # use clap::Parser;
//! # let url = format!("unix://@upcalld-doc-{}", std::process::id());
//! # let options = ["upcalld", "--quiet", "--config", "/dev/null", "--listen", &url];
//! # let daemon = upcalld::cli::Daemon::parse_from(options);
//! # std::thread::spawn(move || upcalld::daemon::run(&daemon));
//! # let url = url.as_str();
//! use std::time::Duration;
//! use upcalld::client::{Client, Item};
//!
//! // url is for example "tcp://127.0.0.1:4141"; insist: the daemon may only be starting.
//! let mut display = Client::builder(url).name("display").filter("door/*").insist().connect()?;
//! let mut sensor = Client::connect(url)?;
//!
//! let receipt = sensor.send_on("door/front", b"open")?;
//! assert_eq!(receipt.receivers, 1);
//!
//! match display.next_timeout(Duration::from_secs(5))? {
//!     Some(Item::Upcall(upcall)) => {
//!         assert_eq!((upcall.topic.as_str(), upcall.payload.as_slice()), ("door/front", &b"open"[..]));
//!         assert_eq!(upcall.sequence, receipt.sequence);
//!     }
//!     other => panic!("{other:?}"),
//! }
//! sensor.close(Duration::from_secs(1))?;
//! # Ok::<(), upcalld::client::Error>(())
//! ```
//!
//! Keep a session, and go on with it in another process:
//!
//! ```
//! # use clap::Parser;
//! # let url = format!("unix://@upcalld-doc-{}", std::process::id());
//! # let options = ["upcalld", "--quiet", "--config", "/dev/null", "--listen", &url];
//! # let daemon = upcalld::cli::Daemon::parse_from(options);
//! # std::thread::spawn(move || upcalld::daemon::run(&daemon));
//! # let url = url.as_str();
//! use std::time::Duration;
//! use upcalld::client::{Client, Item, Session};
//!
//! let listener = Client::builder(url).insist().connect()?;
//! // Hanging up is no goodbye: the daemon keeps the session for a while.
//! let kept: String = listener.hang_up().map(|session| session.to_string()).unwrap_or_default();
//!
//! Client::connect(url)?.send(b"said meanwhile")?;
//!
//! let mut again = Client::builder(url).resume(kept.parse::<Session>()?).connect()?;
//! let item = again.next_timeout(Duration::from_secs(5))?;
//! assert!(matches!(item, Some(Item::Upcall(upcall)) if upcall.payload == b"said meanwhile"));
//! # Ok::<(), upcalld::client::Error>(())
//! ```
//!
//! Listen for ever, and tell what is missing:
//!
//! ```
//! # use clap::Parser;
//! # let url = format!("unix://@upcalld-doc-{}", std::process::id());
//! # let options = ["upcalld", "--quiet", "--config", "/dev/null", "--listen", &url];
//! # let daemon = upcalld::cli::Daemon::parse_from(options);
//! # std::thread::spawn(move || upcalld::daemon::run(&daemon));
//! # let url = url.as_str();
//! use upcalld::client::{Client, Item};
//!
//! let mut listener = Client::builder(url).insist().connect()?;
//! # let mut other = Client::connect(url)?;
//! # for _ in 0..3 { other.send(b"stop")?; }
//! for item in &mut listener {
//!     match item? {
//!         Item::Upcall(upcall) if upcall.payload == b"stop" => break,
//!         Item::Upcall(upcall) => println!("{} bytes", upcall.payload.len()),
//!         Item::Gap(gap) => println!("{} to {} are missing", gap.first, gap.last),
//!         Item::Disconnected { error, retry_in } => println!("{error}; again in {retry_in:?}"),
//!         _ => {}
//!     }
//! }
//! # Ok::<(), upcalld::client::Error>(())
//! ```
//!
//! A client belongs to one thread at a time. To send and to hear in two threads, use two clients, one of them with
//! [`Role::SendOnly`]; to wait for other things as well, poll its descriptor (see [`Client`]).
//!
//! Below, and no part of the library: what the program is made of.
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

mod backoff;
mod bench;
mod commands;
mod connection;
mod datagram;
mod exchange;
mod failure;
mod farewell;
mod interactive;
mod lines;
mod link;
mod listen;
pub mod machine;
mod mailbox;
mod native;
mod output;
mod pacer;
mod programs;
mod prompt;
mod send;
mod senders;
mod session;
mod signals;
mod source;
mod splitter;
mod stream;

use std::io::{self, Write};

use crate::cli;
use crate::cli::{Command, Protocol};
use crate::exit::Status;
use failure::Failure;

pub use native::{
    Builder, Client, Code, Error, Gap, InputId, Item, Loss, Receipt, Role, Session, Subscription, Upcall,
};

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
        None => interactive::run(&address),
        Some(Command::Send(options)) => {
            options.check().map_err(|message| Failure::new(Status::Usage, message))?;
            match options.protocol {
                Protocol::Native => programs::send::run(&address, options),
                Protocol::Text => send::run(&address, options),
            }
        }
        Some(Command::Listen(options)) => {
            options.check().map_err(|message| Failure::new(Status::Usage, message))?;
            match options.protocol {
                Protocol::Native => programs::listen::run(&address, options),
                Protocol::Text => listen::run(&address, options),
            }
        }
        Some(Command::Exec(options)) => programs::exec::run(&address, options),
        Some(Command::Ping(options)) => programs::ping::run(&address, options),
        Some(Command::Bench(options)) => bench::run(&address, options),
        Some(Command::Completions(options)) => completions(options),
    }
}
