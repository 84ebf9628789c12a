//! The command lines of both programs. One definition serves the parser, `--help`, the completions, and the tests that
//! compare the manual pages with it.
//!
//! Knows no configuration, and opens nothing: options are parsed and checked here, and used in `daemon` and `commands`.

mod bench;
mod client;
mod completions;
mod daemon;
mod exec;
mod listen;
mod parse;
mod ping;
mod scripts;
mod send;
mod shared;
#[cfg(test)]
mod tests;

pub use bench::{BenchOptions, MAX_MESSAGES, MIN_SIZE, Mode};
pub use client::{ClientOptions, Command, TargetOptions};
pub use completions::{CompletionsOptions, Program};
pub use daemon::DaemonOptions;
pub use exec::ExecOptions;
pub use listen::ListenOptions;
pub use parse::{parse, parse_client};
pub use ping::PingOptions;
pub use send::SendOptions;
pub use shared::{ClientProtocol, CredentialOptions, ReconnectOptions};
