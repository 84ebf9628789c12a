//! `upcall-client bench`: measures how fast a daemon is, and checks what it delivers.
//!
//! ```text
//! modes: when to publish ─ swarm: one epoll loop over all links ─ scanner ─ message ─ checker, histogram
//!                                │
//!                          link: a connection, in either protocol over any transport
//! ```
//!
//! `warm_up` precedes each measurement; `process` reads the CPU time and memory of the daemon; `outcome` and `report`
//! present the results.

mod checker;
mod histogram;
mod link;
mod message;
mod modes;
mod outcome;
mod process;
mod progress;
mod publish_buffer;
mod renewals;
mod report;
mod scanner;
mod swarm;
mod warm_up;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use upcall_wire::address::Address;

use crate::cli::{BenchOptions, ClientProtocol, MAX_MESSAGES, Mode};
use crate::commands::failure::Failure;
use crate::commands::terminal::output::Output;
use crate::exit::Status;
use checker::Faults;
use link::connect::Connector;
use modes::{ModePlan, ModeRun};
use outcome::ModeOutcome;
use process::Process;
use progress::ProgressLine;
use swarm::Swarm;
use warm_up::warm_up;

/// The most bytes that all receivers together may keep of unfinished messages.
const MAX_TAILS: u64 = 1 << 30;

/// The outcome of a mode, and the daemon's process if it is known.
type Measured = (ModeOutcome, Option<Process>);

/// Runs the measurements that the options name, and prints the results. Fails if anything was received wrongly.
pub(super) fn run(address: &Address, options: &BenchOptions) -> Result<(), Failure> {
    options.check().map_err(|message| Failure::new(Status::Usage, message))?;
    let receivers = u64::from(options.receivers.unwrap_or(DEFAULT_RECEIVERS));
    if receivers * u64::from(options.size) > MAX_TAILS {
        return Err(Failure::new(Status::Usage, "this many receivers of messages of this size need too much memory"));
    }
    let mut measured = Vec::new();
    let mut failure = None;
    for mode in options.modes() {
        match measure(address, options, mode) {
            Ok(result) => measured.push(result),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    if !measured.is_empty() {
        // Results from before a failure are printed as well.
        print(address, options, &measured)?;
    }
    failure
        .or_else(|| measured.iter().find_map(|(outcome, _)| failure_of(outcome, address, options.protocol)))
        .map_or(Ok(()), Err)
}

const DEFAULT_RECEIVERS: u32 = 100;

fn measure(address: &Address, options: &BenchOptions, mode: Mode) -> Result<Measured, Failure> {
    let receivers = match mode {
        Mode::PingPong => 0,
        _ => options.receivers.unwrap_or(DEFAULT_RECEIVERS) as usize,
    };
    let plan = ModePlan {
        mode,
        messages: options.messages.unwrap_or(MAX_MESSAGES).into(),
        duration: options.time(),
        rate: options.rate.unwrap_or(1_000),
        window: options.window.unwrap_or(256).into(),
    };
    let mut progress = ProgressLine::new();
    // Each mode is a separate run, so that late messages of the previous mode do not count.
    let mut swarm = Swarm::new(fastrand::u64(..), options.size as usize, options.timeout)?;
    let connector = Connector::new(address, options)?;
    let first = connector.open(1, |_| ())?;
    let pid = first.iter().find_map(|link| link.daemon_pid());
    swarm.add(first)?;
    swarm.send_preamble();
    let daemon = options.server_pid.or(pid).and_then(Process::new);
    let before = if mode == Mode::Idle { memory_of_one(&mut swarm, daemon.as_ref())? } else { None };
    let others = connector.open(receivers, |made| {
        progress.show(Instant::now(), || format!("{made} of {receivers} connections are made"));
    })?;
    swarm.add(others)?;
    warm_up(&mut swarm, options.timeout, &mut progress)?;
    let after = daemon.as_ref().and_then(Process::memory);
    let run = ModeRun { plan, swarm: &mut swarm, daemon: daemon.as_ref(), progress: &mut progress };
    let mut outcome = run.run()?;
    if let Some(idle) = &mut outcome.idle {
        let grown = after.zip(before).map(|(after, before)| after as f64 - before as f64);
        idle.bytes_per_connection = grown.map(|bytes| bytes / receivers as f64);
    }
    Ok((outcome, daemon))
}

/// The daemon's memory while the publisher is the only endpoint. It publishes once before, as it will have with the
/// other endpoints, so that only those make the difference.
fn memory_of_one(swarm: &mut Swarm, daemon: Option<&Process>) -> Result<Option<u64>, Failure> {
    let until = Instant::now() + Duration::from_millis(200);
    swarm.publish(1)?;
    while !swarm.echoes() && Instant::now() < until {
        swarm.turn(Duration::from_millis(10))?;
    }
    Ok(daemon.and_then(Process::memory))
}

/// The failure if anything was received wrongly. Losses of text over datagrams are a result, not a failure: that
/// transport promises nothing else.
fn failure_of(outcome: &ModeOutcome, address: &Address, protocol: ClientProtocol) -> Option<Failure> {
    let may_lose = address.transport().is_datagram() && protocol == ClientProtocol::Text;
    let lost = if may_lose { 0 } else { outcome.faults.lost };
    Faults { lost, ..outcome.faults }.any().then(|| {
        let (mode, faults) = (outcome::name(outcome.mode), report::faults(&outcome.faults));
        let receivers = outcome.receivers + usize::from(outcome.echo);
        let message = format!("{mode}: wrong at {} of {receivers} receivers: {faults}", outcome.faulty);
        Failure::new(Status::BadData, message)
    })
}

fn print(address: &Address, options: &BenchOptions, measured: &[Measured]) -> Result<(), Failure> {
    let mut text = String::new();
    if options.json {
        let results: Vec<Value> = measured.iter().map(|(outcome, _)| outcome.json()).collect();
        let daemon = measured.iter().find_map(|(_, daemon)| daemon.as_ref());
        let protocol = if options.protocol == ClientProtocol::Native { "native" } else { "text" };
        text = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "address": address.to_string(),
            "protocol": protocol,
            "size": options.size,
            "daemon": daemon,
            "results": results,
        })
        .to_string();
        text.push('\n');
    } else {
        for (i, (outcome, daemon)) in measured.iter().enumerate() {
            if i > 0 {
                text.push('\n');
            }
            let protocol = if options.protocol == ClientProtocol::Native { ", native" } else { "" };
            let heading = format!("{address}{protocol}, messages of {} bytes", options.size);
            report::table(outcome, &heading, daemon.as_ref(), &mut text);
        }
    }
    Output::stdout()?.print(text.as_bytes()).map(drop)
}
