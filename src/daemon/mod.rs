//! The daemon: the only place that sees everything. Builds it from the configuration, runs it, reloads it, drains it.

mod accept;
mod admission;
mod clock;
mod connection;
mod count;
mod datagrams;
mod deadlines;
mod deferred;
mod drain;
mod files;
mod flush;
mod listening;
mod liveness;
mod log;
mod native;
mod native_datagrams;
mod native_post;
mod peers;
mod post;
mod receive;
mod reload;
mod server;
mod summary;

use std::io::{self, Write};
use std::path::PathBuf;

use crate::cli;
use crate::config::{self, Config, Level, Mistakes, Source, When};
use crate::exit::Status;
use crate::net::signals::Signals;
use log::{Log, error, info, warning};
use server::Server;

/// Where the configuration comes from, now and at every reload.
#[derive(Debug, Clone)]
struct Origin {
    file: Option<PathBuf>,
    environment: Option<std::ffi::OsString>,
    options: cli::Daemon,
}

impl Origin {
    fn new(options: &cli::Daemon) -> Origin {
        Origin {
            file: options.config.clone(),
            environment: std::env::var_os("UPCALLD_CONFIG"),
            options: options.clone(),
        }
    }

    /// Reads the configuration; what the command line says overrides it.
    fn load(&self) -> (Source, Result<Config, Mistakes>) {
        let source = config::locate(self.file.as_deref(), self.environment.clone());
        let config = config::load(&source)
            .and_then(|config| config.with_listeners(self.options.listen.clone(), self.options.open))
            .map(|config| self.override_logging(config));
        (source, config)
    }

    fn override_logging(&self, mut config: Config) -> Config {
        match (self.options.verbose, self.options.quiet) {
            (true, _) => config.daemon.log_level = Level::Debug,
            (_, true) => config.daemon.log_level = Level::Warn,
            _ => {}
        }
        match self.options.log_inputs.as_deref() {
            Some("auto") => config.daemon.log_inputs = When::Auto,
            Some("always") => config.daemon.log_inputs = When::Always,
            Some("never") => config.daemon.log_inputs = When::Never,
            _ => {}
        }
        config
    }
}

/// A number that nobody can guess.
fn random() -> u64 {
    let mut bytes = [0; 8];
    // The system has had its randomness since it booted (getrandom(2)); a daemon that has none can keep no secrets.
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    u64::from_ne_bytes(bytes)
}

/// Runs `upcalld` as the options say, until it is told to end.
pub fn run(options: &cli::Daemon) -> Status {
    // First of all: a signal that comes early means what it always means.
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            let _ = writeln!(io::stderr(), "upcalld: cannot handle signals: {error}");
            return Status::CannotCreate;
        }
    };
    let origin = Origin::new(options);
    let (source, config) = origin.load();
    let config = match config {
        Ok(config) => config,
        Err(mistakes) => {
            // Nothing is left to be done where standard error is gone, here and below.
            let _ = writeln!(io::stderr(), "{mistakes}");
            return Status::Configuration;
        }
    };
    if options.print_config {
        return print(&config.to_toml());
    }
    if options.check {
        let count = config.listeners.len();
        return print(&format!("{source}: correct; {count} {}\n", if count == 1 { "listener" } else { "listeners" }));
    }
    serve(origin, &source, config, signals)
}

fn print(text: &str) -> Status {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Status::Ok,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Status::Ok,
        Err(error) => {
            let _ = writeln!(io::stderr(), "upcalld: cannot write to standard output: {error}");
            Status::Io
        }
    }
}

fn serve(origin: Origin, source: &Source, config: Config, signals: Signals) -> Status {
    let mut log = Log::new(config.daemon.log_level);
    let listeners = if origin.options.listen.is_empty() { "" } else { ", listeners from the command line" };
    info!(log, "upcalld {}: configuration: {source}{listeners}", env!("CARGO_PKG_VERSION"));
    match files::raise_limit() {
        Ok(limit) if limit < config.registry.max_endpoints as u64 + files::RESERVED => {
            let room = limit.saturating_sub(files::RESERVED);
            warning!(
                log,
                "{limit} files may be open at once: room for about {room} endpoints, not for the {} of \
                registry.max_endpoints; raise the hard limit (LimitNOFILE=, ulimit -Hn)",
                config.registry.max_endpoints
            );
        }
        Ok(_) => {}
        Err(error) => warning!(log, "cannot raise the limit of open files: {error}"),
    }
    let mut server = match Server::new(origin, config, log, signals) {
        Ok(server) => server,
        Err((mut log, message, status)) => {
            error!(log, "{message}");
            return status;
        }
    };
    server.run()
}
