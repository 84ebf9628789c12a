//! The results of a measurement, as numbers and as JSON.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::checker::Faults;
use super::histogram::Histogram;
use super::process::Cpu;
use crate::cli::Mode;

/// The quantiles that are shown, and their names.
pub(super) const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// The results of one mode.
#[derive(Debug)]
pub(super) struct ModeOutcome {
    pub(super) mode: Mode,
    /// Connections besides the publisher's.
    pub(super) receivers: usize,
    /// Whether the publisher is a receiver too. Its deliveries are then counted with those of the others.
    pub(super) echo: bool,
    pub(super) messages: u64,
    pub(super) deliveries: u64,
    pub(super) elapsed: Duration,
    /// The CPU time of the daemon, if it is known.
    pub(super) daemon: Option<Spent>,
    /// The CPU time of this program.
    pub(super) generator: Spent,
    /// How long each delivery took, in modes that measure it.
    pub(super) times: Option<Histogram>,
    /// By how much each message was sent too late, in modes with a fixed rate.
    pub(super) late: Option<Histogram>,
    pub(super) idle: Option<Idle>,
    pub(super) faults: Faults,
    /// The number of receivers with faults.
    pub(super) faulty: usize,
    /// The number of upcalls that a receiver got of other senders.
    pub(super) foreign: u64,
}

/// CPU time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    pub(super) cpu: Cpu,
    /// In microseconds, if there was a delivery.
    pub(super) per_delivery: Option<f64>,
}

impl Spent {
    pub(super) fn new(cpu: Cpu, deliveries: u64) -> Spent {
        let per_delivery = (deliveries > 0).then(|| cpu.best().as_secs_f64() * 1e6 / deliveries as f64);
        Spent { cpu, per_delivery }
    }

    fn json(&self) -> Value {
        json!({
            "seconds": self.cpu.ticks.as_secs_f64(),
            "schedstat_seconds": self.cpu.schedstat.map(|time| time.as_secs_f64()),
            "us_per_delivery": self.per_delivery,
        })
    }
}

/// The cost of idle connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    /// How often the daemon went to sleep, which is how often it was woken.
    pub(super) wakeups: Option<u64>,
    /// By how many bytes the daemon's own memory grew for each connection.
    pub(super) bytes_per_connection: Option<f64>,
}

/// The name of a mode on the command line.
pub(super) fn name(mode: Mode) -> String {
    mode.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

impl ModeOutcome {
    /// Deliveries a second.
    pub(super) fn rate(&self) -> f64 {
        self.deliveries as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The results as JSON. Unknown figures are null, and figures that the mode does not measure are absent.
    pub(super) fn json(&self) -> Value {
        let mut json = json!({
            "mode": name(self.mode),
            "receivers": self.receivers,
            "echo": self.echo,
            "messages": self.messages,
            "deliveries": self.deliveries,
            "seconds": self.elapsed.as_secs_f64(),
            "deliveries_per_second": self.rate(),
            "daemon_cpu": self.daemon.map(|spent| spent.json()),
            "generator_cpu": self.generator.json(),
            "correct": !self.faults.any(),
            "faults": self.faults,
            "foreign": self.foreign,
        });
        if let Some(times) = &self.times {
            json["latency_us"] = quantiles(times);
        }
        if let Some(late) = &self.late {
            json["sent_late_us"] = quantiles(late);
        }
        if let Some(idle) = &self.idle {
            json["daemon_wakeups"] = json!(idle.wakeups);
            json["daemon_bytes_per_connection"] = json!(idle.bytes_per_connection);
        }
        json
    }
}

fn quantiles(times: &Histogram) -> Value {
    let microseconds = |time: Duration| json!(time.as_nanos() as f64 / 1e3);
    let mut object: serde_json::Map<String, Value> =
        QUANTILES.iter().map(|(name, part)| ((*name).to_owned(), microseconds(times.quantile(*part)))).collect();
    object.insert("max".to_owned(), microseconds(times.max()));
    object.insert("count".to_owned(), json!(times.count()));
    Value::Object(object)
}
