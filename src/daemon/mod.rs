//! The daemon: the only module that knows the engine, the sockets and the configuration. It builds, runs, reloads and
//! drains them.
//!
//! Its modules form layers, and each uses only those below it:
//!
//! ```text
//! server      the loop
//! service     requests of the operator and the service manager: drain, reload, summary, notifications
//! rooms       the rooms together, and the steps that span them
//! streams     connections           datagrams   datagram peers
//! traffic     log lines about clients
//! listeners   sockets, rules, access
//! context     the state that all rooms share
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

/// Runs `upcalld` with these options, until a signal ends it.
pub fn run(options: &cli::DaemonOptions) -> Status {
    // This must come first: a file that we open earlier could get the number of a descriptor that was handed over.
    let inherited = Inherited::take(take_variables(["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]));
    // From here on, signals are caught. One that arrives now is handled once the daemon runs.
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
            // The result of a check is for a person to read; only a daemon under a service manager logs to the journal.
            let as_objects = logging.log_format == LogFormat::Json && !options.check && !options.print_config;
            if log::is_journal() || as_objects {
                let mut logger = Logger::new(&logging);
                logger.before_exit();
                mistakes.list().iter().for_each(|mistake| error!(logger, "{mistake}"));
            } else {
                // Here and below: if standard error is closed, there is no other place to report this.
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
            error!(logger.before_exit(), "{message}");
            return Status::Configuration;
        }
    };
    let mut server = match Server::new(origin, config, logger, signals, notifier, inherited) {
        Ok(server) => server,
        Err((mut logger, message, status)) => {
            error!(logger.before_exit(), "{message}");
            return status;
        }
    };
    server.run()
}
