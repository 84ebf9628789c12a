//! Describes the machine and the programs of a run.

use std::fs;
use std::process::Command;

use crate::contestants::Contestant;
use crate::programs::on_path;

/// Processor, cores and kernel.
pub(crate) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let virtual_machine = if cpu.contains(" hypervisor") { ", virtual" } else { "" };
    format!("{} ({cores} cores{virtual_machine}), Linux {}", model.unwrap_or("unknown processor"), kernel.trim())
}

/// The load average of the last minute.
pub(crate) fn load_average() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("?").into()
}

/// The version that a peer prints.
pub(crate) fn version(peer: Contestant) -> Option<String> {
    let (program, argument) = match peer {
        Contestant::Ncat => ("ncat", "--version"),
        Contestant::Redis => ("redis-server", "--version"),
        Contestant::Nats => ("nats-server", "--version"),
        Contestant::Mosquitto => ("mosquitto", "-h"),
        Contestant::Floor | Contestant::FloorAsNative | Contestant::Upcalld { .. } => return None,
    };
    let output = Command::new(on_path(program)?).arg(argument).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let number = text.split_whitespace().map(|word| word.trim_start_matches(['v', '=']));
    let mut number = number.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    number.next().map(str::to_string)
}
