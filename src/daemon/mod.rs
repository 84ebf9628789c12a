//! The daemon: the only place that sees the engine, the sockets and the configuration. It builds them, runs them,
//! reloads and drains them.
//!
//! Its modules form layers, and each uses only those below it:
//!
//! ```text
//! server      the loop
//! service     what the operator and the service manager ask for: drain, reload, summary, notifications
//! rooms       the rooms together, and the steps that span them
//! streams     connections           datagrams   datagram peers
//! traffic     log lines about clients
//! listeners   sockets, rules, access
//! context     what all rooms work with
//! timers      clocks, deadlines, alarms          log   log lines
//! tokens      the poller's tokens
//! ```

mod context;
mod datagrams;
mod listeners;
mod log;
mod origin;
mod rooms;
mod server;
mod service;
mod streams;
mod timers;
mod tokens;
mod traffic;

use std::io::{self, Write};

use crate::cli;
use crate::config::{Config, ConfigSource, LogFormat};
use crate::exit::Status;
use crate::net::inherited::Inherited;
use crate::net::signals::SignalPipes;
use crate::net::take_variables;
use log::{Logger, error, info};
use origin::Origin;
use server::Server;
use service::files;
use service::notify::Notifier;

/// Runs `upcalld` as the options say, until it is told to end.
pub fn run(options: &cli::DaemonOptions) -> Status {
    // This comes first, while no file of our own can have the number of a descriptor that was handed over.
    let inherited = Inherited::take(take_variables(["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]));
    // From here on, a signal means what it means while the daemon runs.
    let signals = match SignalPipes::new() {
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
            // A person reads the result of a check. What a service manager runs goes to the journal.
            let as_objects = logging.log_format == LogFormat::Json && !options.check && !options.print_config;
            if log::is_journal() || as_objects {
                let mut logger = Logger::new(&logging);
                logger.last_words();
                mistakes.list().iter().for_each(|mistake| error!(logger, "{mistake}"));
            } else {
                // Where standard error is gone, nothing can be done about it, here and below.
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
    source: &ConfigSource,
    config: Config,
    signals: SignalPipes,
    mut notifier: Notifier,
    inherited: Result<Vec<Inherited>, String>,
) -> Status {
    let mut logger = Logger::new(&config.daemon);
    let listeners = if origin.has_listeners() { ", listeners from the command line" } else { "" };
    info!(logger, "upcalld {}: configuration: {source}{listeners}", env!("CARGO_PKG_VERSION"));
    files::warn_of_limit(&mut logger, &config);
    let inherited = match inherited {
        Ok(inherited) => inherited,
        Err(message) => {
            notifier.failed(&message);
            error!(logger.last_words(), "{message}");
            return Status::Configuration;
        }
    };
    let mut server = match Server::new(origin, config, logger, signals, notifier, inherited) {
        Ok(server) => server,
        Err((mut logger, message, status)) => {
            error!(logger.last_words(), "{message}");
            return status;
        }
    };
    server.run()
}
