//! The options of `upcall-client bench`, and which of them apply to which mode.

use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::shared::{ClientProtocol, CredentialOptions, parse_duration};

/// The smallest message, in bytes: it has to hold the run, its index and its time.
pub const MIN_SIZE: u32 = 48;

/// The largest message, in bytes: no daemon is likely to allow more.
const MAX_SIZE: u32 = 1 << 20;

/// The most receivers: one address has no more ephemeral ports.
const MAX_RECEIVERS: u32 = 28_000;

/// The most messages of a run: what fits into the index that each message carries, less the messages of the warm-up.
pub const MAX_MESSAGES: u32 = 4_000_000_000;

/// A kind of measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// One publisher, as fast as the slowest receiver reads: deliveries a second, CPU per delivery
    FanOut,
    /// One publisher at a fixed rate: the time from sending until each receiver has it
    Latency,
    /// One connection, one message at a time: the time of a round trip
    PingPong,
    /// Idle connections: CPU, wakeups, and how much memory a freshly started daemon needs for each
    Idle,
}

/// `upcall-client bench`
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP)]
pub struct BenchOptions {
    /// What to measure; without it fan-out, latency and ping-pong, one after the other and briefly
    #[arg(value_enum, value_name = "MODE")]
    pub mode: Option<Mode>,

    /// Connections that receive, besides the one that publishes [default: 100]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RECEIVERS)))]
    pub receivers: Option<u32>,

    /// End after this many messages [default: when the duration is over]
    #[arg(short, long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_MESSAGES)))]
    pub messages: Option<u32>,

    /// Messages a second, in mode latency [default: 1000]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,

    /// Size of a message in bytes, its newline included
    #[arg(short, long, value_name = "BYTES", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(i64::from(MIN_SIZE)..=i64::from(MAX_SIZE)))]
    pub size: u32,

    /// How long to measure [default: 5s; without MODE 2s for each]
    #[arg(short, long, value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// The most messages outstanding to the slowest receiver, in mode fan-out [default: 256]
    #[arg(short, long, value_name = "W", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub window: Option<u32>,

    /// The daemon's process, for its CPU time and memory [default on Unix sockets: as the kernel reports; else neither
    /// is shown]
    #[arg(long, value_name = "PID", value_parser = parse_pid)]
    pub server_pid: Option<u32>,

    /// Give up when there was no progress for this long
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub timeout: Duration,

    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,

    /// Protocol
    #[arg(long, value_enum, value_name = "P", default_value_t = ClientProtocol::Text)]
    pub protocol: ClientProtocol,

    /// How the client identifies itself
    #[command(flatten)]
    pub credentials: CredentialOptions,
}

const AFTER_HELP: &str = "\
Every message carries its run, its index and its time, and every receiver checks order, count, gaps and duplicates; \
exit status 65 means that they were wrong. Use a separate daemon, with --log-inputs never: every client of it receives \
what is sent here. Messages of other clients are ignored and counted.";

impl BenchOptions {
    /// The modes to measure, in this order.
    pub fn modes(&self) -> Vec<Mode> {
        self.mode.map_or_else(|| vec![Mode::FanOut, Mode::Latency, Mode::PingPong], |mode| vec![mode])
    }

    /// How long each mode is measured.
    pub fn time(&self) -> Duration {
        self.duration.unwrap_or(Duration::from_secs(if self.mode.is_some() { 5 } else { 2 }))
    }

    /// Reports an option that the mode would silently ignore.
    pub fn check(&self) -> Result<(), String> {
        let Some(mode) = self.mode else { return Ok(()) };
        let name = mode.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let stray = [
            ("--receivers", self.receivers.is_some() && mode == Mode::PingPong),
            ("--messages", self.messages.is_some() && mode == Mode::Idle),
            ("--rate", self.rate.is_some() && mode != Mode::Latency),
            ("--window", self.window.is_some() && mode != Mode::FanOut),
        ];
        match stray.iter().find(|(_, stray)| *stray) {
            Some((option, _)) => Err(format!("{option} means nothing to bench {name}")),
            None => Ok(()),
        }
    }
}

fn parse_pid(text: &str) -> Result<u32, String> {
    let pid = text.parse().map_err(|_| "a process id is a number".to_owned())?;
    if Path::new(&format!("/proc/{pid}/stat")).exists() { Ok(pid) } else { Err("there is no such process".into()) }
}
