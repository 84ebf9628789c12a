//! `upcall-client bench`: how fast a daemon is, and whether what it delivers is right.
//!
//! ```text
//! modes: when to publish ─ swarm: one epoll loop over all links ─ scanner ─ message ─ checker, histogram
//!                                │
//!                          link: a connection, whatever the transport
//! ```
//!
//! `warm_up` comes before each measurement; `process` knows what the daemon used; `outcome` and `report` say it.

mod checker;
mod histogram;
mod link;
mod message;
mod modes;
mod outcome;
mod outgoing;
mod process;
mod progress;
mod renewals;
mod report;
mod scanner;
mod swarm;
mod warm_up;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::{Bench, MAX_MESSAGES, Mode, Protocol};
use crate::commands::failure::Failure;
use crate::commands::terminal::output::Output;
use crate::exit::Status;
use checker::Faults;
use modes::{Plan, Run};
use outcome::Outcome;
use process::Process;
use progress::Progress;
use swarm::Swarm;
use upcall_wire::address::Address;
use warm_up::warm_up;

/// What receivers may keep of unfinished messages, all together, in bytes.
const MAX_TAILS: u64 = 1 << 30;

/// What one mode left behind: what it found, and whose daemon it was.
type Measured = (Outcome, Option<Process>);

/// Measures what the options say, prints it, and fails where anything that was received was wrong.
pub(super) fn run(address: &Address, options: &Bench) -> Result<(), Failure> {
    options.check().map_err(|message| Failure::new(Status::Usage, message))?;
    let receivers = u64::from(options.receivers.unwrap_or(DEFAULT_RECEIVERS));
    if receivers * u64::from(options.size) > MAX_TAILS {
        return Err(Failure::new(Status::Usage, "so many receivers of so large messages take too much memory"));
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
        // What was measured before something failed is worth knowing all the same.
        print(address, options, &measured)?;
    }
    failure
        .or_else(|| measured.iter().find_map(|(outcome, _)| complaint(outcome, address, options.protocol)))
        .map_or(Ok(()), Err)
}

const DEFAULT_RECEIVERS: u32 = 100;

fn measure(address: &Address, options: &Bench, mode: Mode) -> Result<Measured, Failure> {
    let receivers = match mode {
        Mode::PingPong => 0,
        _ => options.receivers.unwrap_or(DEFAULT_RECEIVERS) as usize,
    };
    let plan = Plan {
        mode,
        messages: options.messages.unwrap_or(MAX_MESSAGES).into(),
        duration: options.time(),
        rate: options.rate.unwrap_or(1_000),
        window: options.window.unwrap_or(256).into(),
    };
    let mut progress = Progress::new();
    // A run of its own for each mode, so that what is still under way from the last one is taken for a stranger's.
    let mut swarm = Swarm::new(fastrand::u64(..), options.size as usize, options.timeout)?;
    let links = link::Plan { address, options, token: link::token(options)? };
    let first = links.open(1, |_| ())?;
    let pid = first.iter().find_map(|link| link.daemon());
    swarm.add(first)?;
    swarm.greet();
    let daemon = options.server_pid.or(pid).and_then(Process::new);
    let before = if mode == Mode::Idle { memory_of_one(&mut swarm, daemon.as_ref())? } else { None };
    let others = links.open(receivers, |made| {
        progress.show(Instant::now(), || format!("{made} of {receivers} connections are made"));
    })?;
    swarm.add(others)?;
    warm_up(&mut swarm, options.timeout, &mut progress)?;
    let after = daemon.as_ref().and_then(Process::memory);
    let run = Run { plan, swarm: &mut swarm, daemon: daemon.as_ref(), progress: &mut progress };
    let mut outcome = run.run()?;
    if let Some(idle) = &mut outcome.idle {
        let grown = after.zip(before).map(|(after, before)| after as f64 - before as f64);
        idle.bytes_per_connection = grown.map(|bytes| bytes / receivers as f64);
    }
    Ok((outcome, daemon))
}

/// The daemon's memory while the publisher is alone. It has published, as it will have when the others are there, so
/// that only they make the difference.
fn memory_of_one(swarm: &mut Swarm, daemon: Option<&Process>) -> Result<Option<u64>, Failure> {
    let until = Instant::now() + Duration::from_millis(200);
    swarm.publish(1)?;
    while !swarm.echoes() && Instant::now() < until {
        swarm.turn(Duration::from_millis(10))?;
    }
    Ok(daemon.and_then(Process::memory))
}

/// What is wrong with what was received. What text loses over datagrams is a figure, not a
/// fault: nothing else was promised.
fn complaint(outcome: &Outcome, address: &Address, protocol: Protocol) -> Option<Failure> {
    let may_lose = address.transport().is_datagram() && protocol == Protocol::Text;
    let lost = if may_lose { 0 } else { outcome.faults.lost };
    Faults { lost, ..outcome.faults }.any().then(|| {
        let (mode, faults) = (outcome::name(outcome.mode), report::faults(&outcome.faults));
        let receivers = outcome.receivers + usize::from(outcome.echo);
        let message = format!("{mode}: wrong at {} of {receivers} receivers: {faults}", outcome.faulty);
        Failure::new(Status::BadData, message)
    })
}

fn print(address: &Address, options: &Bench, measured: &[Measured]) -> Result<(), Failure> {
    let mut text = String::new();
    if options.json {
        let results: Vec<Value> = measured.iter().map(|(outcome, _)| outcome.json()).collect();
        let daemon = measured.iter().find_map(|(_, daemon)| daemon.as_ref());
        let protocol = if options.protocol == Protocol::Native { "native" } else { "text" };
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
            let protocol = if options.protocol == Protocol::Native { ", native" } else { "" };
            let heading = format!("{address}{protocol}, messages of {} bytes", options.size);
            report::table(outcome, &heading, daemon.as_ref(), &mut text);
        }
    }
    let output = Output::stdout().map_err(|error| Failure::output(&error))?;
    match output.write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::output(&error)),
        _ => Ok(()),
    }
}
