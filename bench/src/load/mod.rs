//! The load: one publisher and many receivers in one thread, and their work in a run.

pub(crate) mod datagrams;
pub(crate) mod native_datagrams;
pub(crate) mod streams;
pub(crate) mod text_datagrams;
pub(crate) mod tracker;

use std::io;
use std::time::{Duration, Instant};

use tracker::DeliveryTracker;

use crate::process::MeasuredProcess;

/// How long the arrival of any message may take while some are outstanding.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A publisher and receivers, connected and registered.
pub(crate) trait LoadClients {
    /// How many clients receive each message.
    fn receivers(&self) -> usize;

    /// The most messages that may be outstanding over this transport, whatever the workload asks for.
    fn window(&self) -> u32 {
        256
    }

    /// Sends this many messages. Those that cannot be sent yet are kept for the next turn.
    fn publish(&mut self, count: u32, tracker: &mut DeliveryTracker) -> io::Result<()>;

    /// Waits at most `timeout` for messages, and handles them.
    fn turn(&mut self, timeout: Duration, tracker: &mut DeliveryTracker) -> io::Result<()>;
}

/// What a run measured.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(crate) struct Sample {
    /// Messages published.
    pub(crate) messages: u64,
    /// Messages received, by all receivers together.
    pub(crate) deliveries: u64,
    /// Duration in seconds.
    pub(crate) seconds: f64,
    /// CPU seconds of the server.
    pub(crate) server_cpu: f64,
    /// CPU seconds of the load.
    pub(crate) load_cpu: f64,
    /// Median time from sending to receiving in seconds, if latencies were recorded.
    pub(crate) p50: Option<f64>,
}

/// The clients, and the server whose CPU time is measured.
pub(crate) struct LoadRun<'a> {
    clients: &'a mut dyn LoadClients,
    tracker: DeliveryTracker,
    server: MeasuredProcess,
}

impl<'a> LoadRun<'a> {
    /// Sends one message and waits until all receivers have it.
    pub(crate) fn new(clients: &'a mut dyn LoadClients, server: MeasuredProcess) -> io::Result<LoadRun<'a>> {
        let tracker = DeliveryTracker::new(clients.receivers());
        let mut run = LoadRun { clients, tracker, server };
        run.clients.publish(1, &mut run.tracker)?;
        run.wait_for_deliveries()?;
        Ok(run)
    }

    /// Keeps the window full for `duration`, then waits until everything has arrived.
    pub(crate) fn fan_out(&mut self, window: u32, warm_up: Duration, duration: Duration) -> io::Result<Sample> {
        // Warm up with a small window: a slow server needs seconds for a large one.
        self.keep_window_full(window.div_ceil(16), warm_up)?;
        self.measured(|run| run.keep_window_full(window, duration))
    }

    /// Sends one message at a time.
    pub(crate) fn round_trips(&mut self, warm_up: Duration, duration: Duration) -> io::Result<Sample> {
        self.keep_window_full(1, warm_up)?;
        self.with_latencies(|run| run.keep_window_full(1, duration))
    }

    /// Sends at most `rate` messages a second, one at a time.
    pub(crate) fn lone(&mut self, rate: u32, warm_up: Duration, duration: Duration) -> io::Result<Sample> {
        self.send_at_rate(rate, warm_up)?;
        self.with_latencies(|run| run.send_at_rate(rate, duration))
    }

    fn with_latencies(&mut self, work: impl FnOnce(&mut LoadRun<'a>) -> io::Result<()>) -> io::Result<Sample> {
        self.tracker.keep_latencies();
        let mut sample = self.measured(work)?;
        let mut latencies = self.tracker.take_latencies();
        latencies.sort_unstable();
        sample.p50 = latencies.get(latencies.len() / 2).map(Duration::as_secs_f64);
        Ok(sample)
    }

    fn measured(&mut self, work: impl FnOnce(&mut LoadRun<'a>) -> io::Result<()>) -> io::Result<Sample> {
        let (messages, deliveries) = (self.tracker.sent(), self.tracker.deliveries());
        let load = MeasuredProcess::current();
        let (server_before, load_before, start) = (self.server.cpu()?, load.cpu()?, Instant::now());
        work(self)?;
        Ok(Sample {
            seconds: start.elapsed().as_secs_f64(),
            server_cpu: (self.server.cpu()? - server_before).as_secs_f64(),
            load_cpu: (load.cpu()? - load_before).as_secs_f64(),
            messages: u64::from(self.tracker.sent() - messages),
            deliveries: self.tracker.deliveries() - deliveries,
            p50: None,
        })
    }

    fn keep_window_full(&mut self, window: u32, duration: Duration) -> io::Result<()> {
        let window = window.min(self.clients.window());
        let start = Instant::now();
        let mut stall = StallDetector::new(&self.tracker);
        while start.elapsed() < duration {
            let free = (self.tracker.complete() + window).saturating_sub(self.tracker.sent());
            if free > 0 {
                self.clients.publish(free, &mut self.tracker)?;
            }
            self.clients.turn(Duration::from_millis(100), &mut self.tracker)?;
            stall.check(&self.tracker)?;
        }
        self.wait_for_deliveries()
    }

    fn send_at_rate(&mut self, rate: u32, duration: Duration) -> io::Result<()> {
        let start = Instant::now();
        let mut due = start;
        let mut stall = StallDetector::new(&self.tracker);
        while start.elapsed() < duration {
            let now = Instant::now();
            // Skip a message while the one before is outstanding: a server with two messages to send would send them
            // together.
            if due <= now {
                if self.tracker.complete() == self.tracker.sent() {
                    self.clients.publish(1, &mut self.tracker)?;
                }
                due = (due + Duration::from_secs(1) / rate).max(now);
                continue;
            }
            self.clients.turn(due - now, &mut self.tracker)?;
            stall.check(&self.tracker)?;
        }
        self.wait_for_deliveries()
    }

    /// Waits until everything has arrived.
    fn wait_for_deliveries(&mut self) -> io::Result<()> {
        let mut stall = StallDetector::new(&self.tracker);
        while self.tracker.complete() < self.tracker.sent() {
            self.clients.turn(Duration::from_millis(100), &mut self.tracker)?;
            stall.check(&self.tracker)?;
        }
        Ok(())
    }
}

/// Detects that nothing arrives any more.
struct StallDetector {
    deliveries: u64,
    since: Instant,
}

impl StallDetector {
    fn new(tracker: &DeliveryTracker) -> StallDetector {
        StallDetector { deliveries: tracker.deliveries(), since: Instant::now() }
    }

    fn check(&mut self, tracker: &DeliveryTracker) -> io::Result<()> {
        if tracker.deliveries() != self.deliveries || tracker.complete() == tracker.sent() {
            *self = StallDetector::new(tracker);
        } else if self.since.elapsed() > STALL_TIMEOUT {
            return Err(io::Error::other(tracker.missing()));
        }
        Ok(())
    }
}

/// An error about what a server sent.
pub(crate) fn invalid_data(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}
