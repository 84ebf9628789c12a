//! The modes: when each one publishes, what it waits for, and what it measures.

use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::outcome::{Idle, ModeOutcome, Spent};
use super::process::{Cpu, Process, own_cpu};
use super::progress::ProgressLine;
use super::swarm::Swarm;
use crate::cli::Mode;
use crate::commands::failure::Failure;

/// The longest wait at a time, so that the progress line stays up to date.
const TURN: Duration = Duration::from_millis(100);

/// The parameters of a mode.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModePlan {
    pub(super) mode: Mode,
    /// Ends after this many messages,
    pub(super) messages: u64,
    /// or after this time.
    pub(super) duration: Duration,
    /// Messages a second, in mode latency.
    pub(super) rate: u32,
    /// The most messages outstanding to the slowest receiver, in mode fan-out.
    pub(super) window: u64,
}

/// A plan, and the state for its measurement.
pub(super) struct ModeRun<'a> {
    pub(super) plan: ModePlan,
    pub(super) swarm: &'a mut Swarm,
    pub(super) daemon: Option<&'a Process>,
    pub(super) progress: &'a mut ProgressLine,
}

/// The figures at the start of a measurement.
struct Start {
    time: Instant,
    sent: u64,
    daemon: Option<Cpu>,
    own: Duration,
}

impl ModeRun<'_> {
    /// Runs the measurement of the plan, except for the memory of idle connections: the caller, which opened them,
    /// measures that.
    pub(super) fn run(mut self) -> Result<ModeOutcome, Failure> {
        self.swarm.measure(matches!(self.plan.mode, Mode::Latency | Mode::PingPong));
        let start = Start {
            time: Instant::now(),
            sent: self.swarm.sent(),
            daemon: self.daemon.and_then(Process::cpu),
            own: own_cpu(),
        };
        let switches = self.daemon.and_then(Process::voluntary_switches);
        let late = match self.plan.mode {
            Mode::FanOut => self.windowed(&start, self.plan.window).map(|()| None),
            Mode::PingPong => self.windowed(&start, 1).map(|()| None),
            Mode::Latency => self.at_a_rate(&start).map(Some),
            Mode::Idle => self.idle(&start).map(|()| None),
        }?;
        let mut outcome = self.outcome(&start, late);
        if self.plan.mode == Mode::Idle {
            let now = self.daemon.and_then(Process::voluntary_switches);
            let wakeups = now.zip(switches).map(|(now, before)| now.saturating_sub(before));
            outcome.idle = Some(Idle { wakeups, bytes_per_connection: None });
        }
        Ok(outcome)
    }

    /// Publishes as fast as possible with at most `window` messages outstanding to the slowest receiver.
    fn windowed(&mut self, start: &Start, window: u64) -> Result<(), Failure> {
        let limit = start.sent + self.plan.messages;
        loop {
            let now = Instant::now();
            let over = now - start.time >= self.plan.duration;
            let sent = self.swarm.sent();
            if !over {
                let target = limit.min(self.swarm.slowest() + window);
                self.swarm.publish(target.saturating_sub(sent))?;
            } else if self.swarm.slowest() == sent {
                return Ok(());
            }
            self.show(start, now);
            if self.swarm.sent() == limit && self.swarm.slowest() == limit {
                return Ok(());
            }
            self.swarm.turn(TURN)?;
        }
    }

    /// Publishes at even intervals, whether or not earlier messages have been received. Returns by how much each
    /// message was sent too late, because of this program or because the socket was full.
    fn at_a_rate(&mut self, start: &Start) -> Result<Histogram, Failure> {
        let interval = Duration::from_secs(1) / self.plan.rate;
        let limit = start.sent + self.plan.messages;
        let mut late = Histogram::default();
        let mut due = start.time;
        loop {
            let now = Instant::now();
            let over = now - start.time >= self.plan.duration || self.swarm.sent() >= limit;
            if over && self.swarm.slowest() == self.swarm.sent() {
                return Ok(late);
            }
            let mut blocked = false;
            while !over && due <= now && !blocked && self.swarm.sent() < limit {
                blocked = self.swarm.publish(1)? == 0;
                if !blocked {
                    late.record(u64::try_from((now - due).as_nanos()).unwrap_or(u64::MAX));
                    due += interval;
                }
            }
            self.show(start, now);
            if over || blocked {
                self.swarm.turn(TURN)?;
            } else {
                self.swarm.sleep(due.saturating_duration_since(Instant::now()).min(TURN));
                self.swarm.turn(Duration::ZERO)?;
            }
        }
    }

    fn idle(&mut self, start: &Start) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            let left = self.plan.duration.saturating_sub(now - start.time);
            if left.is_zero() {
                return Ok(());
            }
            self.progress.show(now, || format!("idle: {} s left", left.as_secs() + 1));
            self.swarm.turn(left.clamp(Duration::from_millis(1), TURN))?;
        }
    }

    fn show(&mut self, start: &Start, now: Instant) {
        let swarm = &*self.swarm;
        self.progress.show(now, || {
            let seconds = (now - start.time).as_secs_f64().max(1e-3);
            let deliveries = swarm.deliveries();
            format!("{seconds:.1} s: {deliveries} deliveries, {:.0} a second", deliveries as f64 / seconds)
        });
    }

    fn outcome(&mut self, start: &Start, late: Option<Histogram>) -> ModeOutcome {
        let elapsed = start.time.elapsed();
        let daemon = self.daemon.and_then(Process::cpu).zip(start.daemon).map(|(now, before)| now.since(before));
        let deliveries = self.swarm.deliveries();
        let (faults, faulty) = self.swarm.faults();
        ModeOutcome {
            mode: self.plan.mode,
            receivers: self.swarm.receivers().0,
            echo: self.swarm.echoes(),
            messages: self.swarm.sent() - start.sent,
            deliveries,
            elapsed,
            daemon: daemon.map(|cpu| Spent::new(cpu, deliveries)),
            generator: Spent::new(Cpu { ticks: own_cpu().saturating_sub(start.own), schedstat: None }, deliveries),
            times: self.swarm.take_times(),
            late,
            idle: None,
            faults,
            faulty,
            foreign: self.swarm.foreign(),
        }
    }
}
