//! The machine and the programs of a run.

use std::fs;
use std::process::Command;

use crate::contestants::Contestant;
use crate::servers::on_path;

/// Processor, cores and kernel, in a line.
pub(crate) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let virtual_machine = if cpu.contains(" hypervisor") { ", virtual" } else { "" };
    format!("{} ({cores} cores{virtual_machine}), Linux {}", model.unwrap_or("unknown processor"), kernel.trim())
}

/// How busy the machine is, with whatever else.
pub(crate) fn load_average() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("?").into()
}

/// What a peer says of its version.
pub(crate) fn version(peer: Contestant) -> Option<String> {
    let (program, argument) = match peer {
        Contestant::Ncat => ("ncat", "--version"),
        Contestant::Redis => ("redis-server", "--version"),
        Contestant::Nats => ("nats-server", "--version"),
        Contestant::Mosquitto => ("mosquitto", "-h"),
        Contestant::Floor | Contestant::FloorAsNative | Contestant::Upcalld { .. } => return None,
    };
    let output = Command::new(on_path(program)?).arg(argument).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let number = said.split_whitespace().map(|word| word.trim_start_matches(['v', '=']));
    let mut number = number.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    number.next().map(str::to_string)
}
