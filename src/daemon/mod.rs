//! The daemon: the only place that sees everything. Builds it from the configuration, runs it, reloads it, drains it.

mod datagrams;
mod listeners;
mod log;
mod server;
mod service;
mod streams;
mod timers;

use std::io::{self, Write};
use std::path::PathBuf;

use crate::cli;
use crate::config::{self, Config, Level, LogFormat, Mistakes, Source, When};
use crate::exit::Status;
use crate::net::inherited::Inherited;
use crate::net::signals::Signals;
use crate::net::take_variables;
use log::{Log, error, info};
use server::Server;
use service::notify::Notifier;

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
        match self.options.log_format.as_deref() {
            Some("auto") => config.daemon.log_format = LogFormat::Auto,
            Some("text") => config.daemon.log_format = LogFormat::Text,
            Some("json") => config.daemon.log_format = LogFormat::Json,
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
    // First of all, while no file of our own can have the number of one that was handed over.
    let inherited = Inherited::take(take_variables(["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]));
    // A signal that comes early means what it always means.
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => {
            let _ = writeln!(io::stderr(), "upcalld: cannot handle signals: {error}");
            return Status::CannotCreate;
        }
    };
    let origin = Origin::new(options);
    let mut notifier = Notifier::new(take_variables(["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]));
    let (source, config) = origin.load();
    let config = match config {
        Ok(config) => config,
        Err(mistakes) => {
            notifier.failed(&mistakes.to_string());
            let logging = origin.override_logging(Config::default()).daemon;
            // Whoever checks a file reads it as a person; but what a service manager runs goes to the journal.
            let as_objects = logging.log_format == LogFormat::Json && !options.check && !options.print_config;
            if log::is_journal() || as_objects {
                let mut log = Log::new(&logging);
                log.last_words();
                mistakes.list().iter().for_each(|mistake| error!(log, "{mistake}"));
            } else {
                // Nothing is left to be done where standard error is gone, here and below.
                let _ = writeln!(io::stderr(), "{mistakes}");
            }
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
    serve(origin, &source, config, signals, notifier, inherited)
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

fn serve(
    origin: Origin,
    source: &Source,
    config: Config,
    signals: Signals,
    mut notifier: Notifier,
    inherited: Result<Vec<Inherited>, String>,
) -> Status {
    let mut log = Log::new(&config.daemon);
    let listeners = if origin.options.listen.is_empty() { "" } else { ", listeners from the command line" };
    info!(log, "upcalld {}: configuration: {source}{listeners}", env!("CARGO_PKG_VERSION"));
    service::files::warn_of_limit(&mut log, &config);
    let inherited = match inherited {
        Ok(inherited) => inherited,
        Err(message) => {
            notifier.failed(&message);
            error!(log.last_words(), "{message}");
            return Status::Configuration;
        }
    };
    let mut server = match Server::new(origin, config, log, signals, notifier, inherited) {
        Ok(server) => server,
        Err((mut log, message, status)) => {
            error!(log.last_words(), "{message}");
            return status;
        }
    };
    server.run()
}
