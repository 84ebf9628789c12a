//! What every room works with: the engine, the logger, the poller, the timers, the clock and the configuration.
//!
//! Knows no listener, connection or peer.

use std::collections::VecDeque;
use std::time::Duration;

use super::log::{self, Count, Logger, info};
use super::timers::{Clock, Timers};
use crate::config::{Config, Level, When};
use crate::net::poller::Poller;
use upcall_engine::{Accepted, EndpointId, Engine, Entropy, Event, Settings, Time};
use upcall_wire::escape::Escaped;

/// How long an endpoint that is told to leave may take to read what is due to it.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

/// At most this many bytes of an input are logged.
const LOGGED: usize = 1024;

/// The daemon is ending.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) deadline: Time,
    /// A second signal came: what is still due is given up.
    pub(super) at_once: bool,
}

/// What the rooms share. Each method of a room that needs it gets it as an argument.
pub(super) struct Context {
    pub(super) engine: Engine,
    pub(super) logger: Logger,
    pub(super) poller: Poller,
    pub(super) timers: Timers,
    pub(super) clock: Clock,
    pub(super) config: Config,
    pub(super) drain: Option<Drain>,
    /// Whether inputs are logged, by the configuration and by what standard error is.
    log_inputs: bool,
    /// Events of the engine that were taken where they could not be handled, oldest first.
    postponed: VecDeque<Event>,
}

impl Context {
    pub(super) fn new(config: Config, logger: Logger, poller: Poller, timers: Timers) -> Context {
        Context {
            engine: Engine::new(engine_settings(&config), config.log.size, Entropy::new(random)),
            logger,
            poller,
            timers,
            clock: Clock::default(),
            log_inputs: logs_inputs(&config),
            config,
            drain: None,
            postponed: VecDeque::new(),
        }
    }

    /// Uses another configuration from now on.
    pub(super) fn reconfigure(&mut self, config: Config) {
        self.engine.reconfigure(self.clock.now(), engine_settings(&config));
        self.log_inputs = logs_inputs(&config);
        self.logger.reconfigure(&config.daemon);
        self.config = config;
    }

    /// The next event to handle.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.postponed.pop_front().or_else(|| self.engine.next_event())
    }

    /// Leaves an event to the end of the turn.
    pub(super) fn postpone(&mut self, event: Event) {
        self.postponed.push_back(event);
    }

    /// Whether inputs are logged now.
    pub(super) fn logs_inputs(&self) -> bool {
        self.log_inputs && self.logger.enabled(Level::Info)
    }

    /// Logs an input, if inputs are logged. It has no `sender` where that is not registered.
    pub(super) fn log_input(&mut self, sender: Option<EndpointId>, message: &[u8], accepted: Accepted) {
        if !self.logs_inputs() {
            return;
        }
        let Accepted { sequence, due, .. } = accepted;
        let data = message.strip_suffix(b"\n").unwrap_or(message);
        let shown = Escaped(&data[..data.len().min(LOGGED)]);
        let more = if data.len() > LOGGED { format!("… ({} bytes)", data.len()) } else { String::new() };
        let id = sender.and_then(|sender| self.engine.endpoint(sender)).map_or(0, |endpoint| endpoint.number);
        let sender = if id == 0 { "not registered".to_string() } else { format!("#{id}") };
        let due = Count(due, "endpoint");
        info!(
            self.logger, endpoint = id, sequence = sequence;
            "Received from client: {shown}{more} -- {sender}, upcall {sequence} to {due}"
        );
    }
}

/// What the engine needs to know of a configuration.
pub(super) fn engine_settings(config: &Config) -> Settings {
    Settings {
        format: config.upcall.format.clone(),
        audience: config.upcall.deliver_to,
        max_endpoints: config.registry.max_endpoints,
        lease: config.registry.lease,
        max_message: config.upcall.max_message,
        session_ttl: config.registry.session_ttl,
        message_timeout: config.upcall.message_timeout,
        max_behind: config.slow_consumer.max_behind as u64,
        patience: config.slow_consumer.patience,
        policy: config.slow_consumer.policy,
        farewell: FAREWELL,
    }
}

fn logs_inputs(config: &Config) -> bool {
    match config.daemon.log_inputs {
        When::Auto => log::is_terminal(),
        When::Always => true,
        When::Never => false,
    }
}

/// An unpredictable number.
fn random() -> u64 {
    let mut bytes = [0; 8];
    // The kernel has had randomness since it booted (getrandom(2)). Without it, a daemon could keep no secrets.
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    u64::from_ne_bytes(bytes)
}
