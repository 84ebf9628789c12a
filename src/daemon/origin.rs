//! The origin of the configuration, for the start and for every reload: a file, the environment, and the options.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli;
use crate::config::{self, Config, ConfigSource, Level, LogFormat, Mistakes, When};

#[derive(Debug, Clone)]
pub(super) struct Origin {
    file: Option<PathBuf>,
    environment: Option<OsString>,
    options: cli::DaemonOptions,
}

impl Origin {
    pub(super) fn new(options: &cli::DaemonOptions) -> Origin {
        Origin {
            file: options.config.clone(),
            environment: std::env::var_os("UPCALLD_CONFIG"),
            options: options.clone(),
        }
    }

    /// Whether the command line names the listeners.
    pub(super) fn has_listeners(&self) -> bool {
        !self.options.listen.is_empty()
    }

    /// Reads the configuration. The options of the command line override it.
    pub(super) fn load(&self) -> (ConfigSource, Result<Config, Mistakes>) {
        let source = config::locate(self.file.as_deref(), self.environment.clone());
        let config = config::load(&source)
            .and_then(|config| config.with_listeners(self.options.listen.clone(), self.options.open))
            .map(|config| self.override_logging(config));
        (source, config)
    }

    /// Applies the options for logging.
    pub(super) fn override_logging(&self, mut config: Config) -> Config {
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
