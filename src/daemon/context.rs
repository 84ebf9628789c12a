//! The state that all rooms share: the engine, the logger, the poller, the timers, the clock and the configuration.
//!
//! Knows no listener, connection or peer.

use std::collections::VecDeque;
use std::time::Duration;

use upcall_engine::{Accepted, EndpointId, Engine, Entropy, Event, Now, Settings, Time};
use upcall_wire::address::{Peer, Transport};
use upcall_wire::escape::Escaped;
use upcall_wire::frame::Frame;

use super::log::{self, Count, Logger, info};
use super::timers::{Clock, Timers};
use crate::config::{Config, Level, When};
use crate::net::poller::Poller;

/// The time that a leaving endpoint has to read what is due to it.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

/// At most this many bytes of an input are logged.
const LOGGED: usize = 1024;

/// The daemon is ending.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) deadline: Time,
    /// A second signal has arrived: the daemon ends without sending the rest.
    pub(super) at_once: bool,
}

/// The state that the rooms share, passed to their methods as an argument.
pub(super) struct Context {
    pub(super) engine: Engine,
    pub(super) logger: Logger,
    pub(super) poller: Poller,
    pub(super) timers: Timers,
    pub(super) clock: Clock,
    pub(super) config: Config,
    pub(super) drain: Option<Drain>,
    /// Whether inputs are logged; depends on the configuration and on whether standard error is a terminal.
    log_inputs: bool,
    /// Engine events that were taken before they could be handled, oldest first.
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

    /// Keeps an event until the end of the turn.
    pub(super) fn postpone(&mut self, event: Event) {
        self.postponed.push_back(event);
    }

    /// Whether inputs are logged now.
    pub(super) fn logs_inputs(&self) -> bool {
        self.log_inputs && self.logger.enabled(Level::Info)
    }

    /// Gives the engine an input, and logs it if it is accepted.
    pub(super) fn input(&mut self, now: Now, sender: EndpointId, message: &[u8]) {
        if let Some(accepted) = self.engine.input(now, sender, message) {
            self.log_input(Some(sender), message, accepted);
        }
    }

    /// Gives the engine an input of a sender that is not registered, and logs it.
    pub(super) fn input_from(&mut self, now: Now, transport: Transport, peer: Peer, message: &[u8]) {
        let accepted = self.engine.input_from(now, transport, peer, message);
        self.log_input(None, message, accepted);
    }

    /// Gives the engine a frame. If it is an input that is accepted, logs it.
    pub(super) fn handle_frame(&mut self, now: Now, sender: EndpointId, frame: &Frame<'_>) {
        if let Some(accepted) = self.engine.handle_frame(now, sender, frame)
            && let Frame::Send(send) = frame
        {
            self.log_input(Some(sender), send.payload, accepted);
        }
    }

    fn log_input(&mut self, sender: Option<EndpointId>, message: &[u8], accepted: Accepted) {
        if !self.logs_inputs() {
            return;
        }
        let Accepted { sequence, due, .. } = accepted;
        let data = message.strip_suffix(b"\n").unwrap_or(message);
        let shown = Escaped(&data[..data.len().min(LOGGED)]);
        let more = if data.len() > LOGGED { format!("… ({} bytes)", data.len()) } else { String::new() };
        let number = sender.and_then(|sender| self.engine.endpoint(sender)).map(|endpoint| endpoint.number);
        let sender = number.map_or("not registered".to_string(), |number| format!("#{number}"));
        let due = Count(due, "endpoint");
        info!(
            self.logger, endpoint = number.unwrap_or(0), sequence = sequence;
            "Received from client: {shown}{more} -- {sender}, upcall {sequence} to {due}"
        );
    }
}

/// The part of a configuration that the engine needs.
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
    // getrandom(2) fails only on kernels without it. Cookies and keys must not be predictable, so there is no fallback.
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    u64::from_ne_bytes(bytes)
}
