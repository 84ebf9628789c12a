//! Reload on SIGHUP: reads the configuration again, adds and removes listeners, and changes everything else in place.
//! If the file is wrong or a listener cannot be bound, nothing changes.

use super::files;
use super::notify::Notifier;
use super::reload_listeners::{KEPT, change_listeners};
use crate::config::{self, Config};
use crate::daemon::context::Context;
use crate::daemon::log::{error, info, warning};
use crate::daemon::origin::Origin;
use crate::daemon::rooms::Rooms;

pub(in crate::daemon) fn reload(rooms: &mut Rooms, notifier: &mut Notifier, origin: &Origin) {
    if rooms.context.drain.is_some() {
        return;
    }
    notifier.reloading(rooms.context.clock.now().time);
    let (source, config) = origin.load();
    let changed = config
        .map_err(|mistakes| {
            for mistake in mistakes.list() {
                error!(rooms.context.logger, "{mistake}");
            }
            format!("{source} cannot be used{KEPT}")
        })
        .and_then(|config| change(rooms, config));
    let Context { logger, config, clock, .. } = &mut rooms.context;
    match &changed {
        Ok(()) => {
            rooms.listeners.warn_of_mismatches(logger, &config.listeners);
            info!(logger, "reloaded: configuration: {source}");
        }
        Err(message) => error!(logger, "reload refused: {message}"),
    }
    notifier.reloaded(clock.now().time, changed.is_err());
}

/// Applies another configuration. On an error, nothing has changed.
fn change(rooms: &mut Rooms, config: Config) -> Result<(), String> {
    let config = fit_to_log(&mut rooms.context, config).map_err(|message| message + KEPT)?;
    change_listeners(rooms, &config)?;
    let is_other_limit = config.registry.max_endpoints != rooms.context.config.registry.max_endpoints;
    rooms.datagrams.reconfigure(&config);
    rooms.context.reconfigure(config);
    let Context { logger, config, .. } = &mut rooms.context;
    if is_other_limit {
        files::warn_of_limit(logger, config);
    }
    Ok(())
}

/// Replaces the size of the log by the present one, which cannot change until a restart. Fails if the other values do
/// not fit into a log of that size.
fn fit_to_log(context: &mut Context, mut config: Config) -> Result<Config, String> {
    let size = context.config.log.size;
    if config.log.size == size {
        return Ok(config);
    }
    config.log.size = size;
    let size = config::print_size(size);
    warning!(context.logger, "log.size needs a restart; it stays at {size}");
    match config::parse("as it would be", &config.to_toml()) {
        Ok(config) => Ok(config),
        Err(mistakes) => {
            let reasons: Vec<&str> = mistakes.list().iter().map(|mistake| mistake.reason.as_str()).collect();
            Err(format!("with a log of {size}, {}", reasons.join("; ")))
        }
    }
}
