//! The load: one publisher and many receivers in one thread, and what they are made to do.

pub(crate) mod datagrams;
pub(crate) mod native_datagrams;
pub(crate) mod streams;
pub(crate) mod text_datagrams;
pub(crate) mod tracker;

use std::io;
use std::time::{Duration, Instant};

use tracker::Progress;

use crate::process::Process;

/// How long nothing may arrive while something is outstanding.
const STALL: Duration = Duration::from_secs(10);

/// Publisher and receivers, connected and registered.
pub(crate) trait Swarm {
    /// How many get each message.
    fn receivers(&self) -> usize;

    /// The most messages that may be outstanding over this transport, beside what the work says.
    fn window(&self) -> u32 {
        256
    }

    /// Sends this many messages, or remembers what could not be sent yet.
    fn publish(&mut self, count: u32, progress: &mut Progress) -> io::Result<()>;

    /// Handles what arrives, waiting for it no longer than `timeout`.
    fn turn(&mut self, timeout: Duration, progress: &mut Progress) -> io::Result<()>;
}

/// What a run used.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(crate) struct Sample {
    /// Messages published.
    pub(crate) messages: u64,
    /// Messages received, by all receivers together.
    pub(crate) deliveries: u64,
    /// Seconds that it took.
    pub(crate) seconds: f64,
    /// CPU seconds of the server.
    pub(crate) server_cpu: f64,
    /// CPU seconds of the load.
    pub(crate) load_cpu: f64,
    /// Seconds from sending to receiving, the median, where that was measured.
    pub(crate) p50: Option<f64>,
}

/// A swarm, and the server whose CPU time is counted.
pub(crate) struct Run<'a> {
    swarm: &'a mut dyn Swarm,
    progress: Progress,
    server: Process,
}

impl<'a> Run<'a> {
    /// Sends one message, and waits until everyone has it.
    pub(crate) fn new(swarm: &'a mut dyn Swarm, server: Process) -> io::Result<Run<'a>> {
        let progress = Progress::new(swarm.receivers());
        let mut run = Run { swarm, progress, server };
        run.swarm.publish(1, &mut run.progress)?;
        run.settle()?;
        Ok(run)
    }

    /// As many messages as the window admits, for this long, and then until all have arrived.
    pub(crate) fn fan_out(&mut self, window: u32, warm_up: Duration, duration: Duration) -> io::Result<Sample> {
        // A small window, since a slow server takes seconds for a large one.
        self.flood(window.div_ceil(16), warm_up)?;
        self.measured(|run| run.flood(window, duration))
    }

    /// One message at a time.
    pub(crate) fn round_trips(&mut self, warm_up: Duration, duration: Duration) -> io::Result<Sample> {
        self.flood(1, warm_up)?;
        self.with_latencies(|run| run.flood(1, duration))
    }

    /// Messages at a steady rate, a second, each on its own.
    pub(crate) fn lone(&mut self, rate: u32, warm_up: Duration, duration: Duration) -> io::Result<Sample> {
        self.steady(rate, warm_up)?;
        self.with_latencies(|run| run.steady(rate, duration))
    }

    fn with_latencies(&mut self, work: impl FnOnce(&mut Run<'a>) -> io::Result<()>) -> io::Result<Sample> {
        self.progress.keep_latencies();
        let mut sample = self.measured(work)?;
        let mut latencies = self.progress.take_latencies();
        latencies.sort_unstable();
        sample.p50 = latencies.get(latencies.len() / 2).map(Duration::as_secs_f64);
        Ok(sample)
    }

    fn measured(&mut self, work: impl FnOnce(&mut Run<'a>) -> io::Result<()>) -> io::Result<Sample> {
        let (messages, deliveries) = (self.progress.sent(), self.progress.deliveries());
        let load = Process::ours();
        let (server_before, load_before, start) = (self.server.cpu()?, load.cpu()?, Instant::now());
        work(self)?;
        Ok(Sample {
            seconds: start.elapsed().as_secs_f64(),
            server_cpu: (self.server.cpu()? - server_before).as_secs_f64(),
            load_cpu: (load.cpu()? - load_before).as_secs_f64(),
            messages: u64::from(self.progress.sent() - messages),
            deliveries: self.progress.deliveries() - deliveries,
            p50: None,
        })
    }

    fn flood(&mut self, window: u32, duration: Duration) -> io::Result<()> {
        let window = window.min(self.swarm.window());
        let start = Instant::now();
        let mut stall = Stall::new(&self.progress);
        while start.elapsed() < duration {
            let free = (self.progress.complete() + window).saturating_sub(self.progress.sent());
            if free > 0 {
                self.swarm.publish(free, &mut self.progress)?;
            }
            self.swarm.turn(Duration::from_millis(100), &mut self.progress)?;
            stall.check(&self.progress)?;
        }
        self.settle()
    }

    fn steady(&mut self, rate: u32, duration: Duration) -> io::Result<()> {
        let start = Instant::now();
        let mut due = start;
        let mut stall = Stall::new(&self.progress);
        while start.elapsed() < duration {
            let now = Instant::now();
            // One that would catch up with the one before is left out, or they were not lone: a server that has two to send
            // sends them together.
            if due <= now {
                if self.progress.complete() == self.progress.sent() {
                    self.swarm.publish(1, &mut self.progress)?;
                }
                due = (due + Duration::from_secs(1) / rate).max(now);
                continue;
            }
            self.swarm.turn(due - now, &mut self.progress)?;
            stall.check(&self.progress)?;
        }
        self.settle()
    }

    /// Until everything has arrived.
    fn settle(&mut self) -> io::Result<()> {
        let mut stall = Stall::new(&self.progress);
        while self.progress.complete() < self.progress.sent() {
            self.swarm.turn(Duration::from_millis(100), &mut self.progress)?;
            stall.check(&self.progress)?;
        }
        Ok(())
    }
}

/// Notices that nothing arrives any more.
struct Stall {
    deliveries: u64,
    since: Instant,
}

impl Stall {
    fn new(progress: &Progress) -> Stall {
        Stall { deliveries: progress.deliveries(), since: Instant::now() }
    }

    fn check(&mut self, progress: &Progress) -> io::Result<()> {
        if progress.deliveries() != self.deliveries || progress.complete() == progress.sent() {
            *self = Stall::new(progress);
        } else if self.since.elapsed() > STALL {
            return Err(io::Error::other(progress.missing()));
        }
        Ok(())
    }
}

/// An error about what a server sent.
pub(crate) fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
