//! The configuration: TOML in, validated types out, and every mistake of a file in one run, with its line and column.
//!
//! Owns the schema, its defaults, the rules between keys, and the search for the file. A [`Config`] has been checked
//! completely, so that the daemon need not check it again. Binds nothing and writes nothing; must not know sockets or
//! the daemon.

mod command_line;
mod listener;
mod mistake;
mod parse;
mod print;
mod read;
mod schema;
mod search;
mod syntax;
mod token;
mod types;
mod units;
mod validate;
mod values;
mod words;

pub use mistake::{Mistake, Mistakes, Place};
pub use parse::{MAX_FILE, parse};
pub use schema::SCHEMA;
pub use search::{ConfigSource, DEFAULT_PATH, load, locate};
pub use token::Token;
pub use types::{
    Config, DaemonConfig, Level, ListenerConfig, ListenerProtocol, ListenerRole, LogConfig, LogFormat, MAX_LISTENERS,
    RegistryConfig, SlowConsumerConfig, UpcallConfig, When,
};
pub use units::print_size;
