//! The rounds of a workload: in each round every contestant takes one turn, so that a disturbance of the machine
//! affects all of them equally.

use std::io::{IsTerminal, Write};

use crate::contestants::Contestant;
use crate::figures::label;
use crate::measure::{MeasurementSettings, measure};
use crate::numbers::{number, thousands};
use crate::results::{ContestantRow, Results, WorkloadResult};
use crate::servers::ServerHost;
use crate::workloads::{Workload, WorkloadKind};

/// Runs all workloads and reports progress on standard error. `contestants` are parts of the names of those to measure.
pub(crate) fn run(
    host: &ServerHost,
    settings: &MeasurementSettings,
    workloads: Vec<Workload>,
    rounds: usize,
    contestants: &[String],
) -> Results {
    let mut results = Results { builds: host.builds.len(), ..Results::default() };
    for workload in workloads {
        let done = rounds_of(host, settings, workload, rounds, contestants, &mut results);
        results.workloads.push(done);
    }
    results
}

fn rounds_of(
    host: &ServerHost,
    settings: &MeasurementSettings,
    workload: Workload,
    rounds: usize,
    contestants: &[String],
    results: &mut Results,
) -> WorkloadResult {
    let builds = host.builds.len();
    let limit = open_file_limit();
    let mut rows: Vec<ContestantRow> = Vec::new();
    for contestant in workload.contestants(builds) {
        let label = contestant.label(builds);
        let wanted = contestants.is_empty()
            || contestant == Contestant::Floor
            || contestants.iter().any(|part| label.contains(part));
        if wanted {
            let left_out = contestant.left_out_reason(workload.transport, workload.endpoints).or_else(|| {
                let needed = workload.endpoints + 100;
                (needed > limit).then(|| format!("needs {} open files, {limit} are allowed", thousands(needed)))
            });
            rows.push(ContestantRow { contestant, left_out, rounds: Vec::new() });
        }
    }
    // The cost of idle endpoints hardly varies, and takes long to measure.
    let rounds = if workload.kind == WorkloadKind::Idle { 1 } else { rounds };
    for round in 0..rounds {
        for row in rows.iter_mut().filter(|row| row.left_out.is_none()) {
            show_progress(&format!(
                "{}, round {} of {rounds}: {}",
                workload.name(),
                round + 1,
                row.contestant.label(builds)
            ));
            let figures = measure(host, settings, &workload, row.contestant);
            if let Err(error) = &figures {
                results.failed |= !Contestant::PEERS.contains(&row.contestant);
                results.errors.push(format!("{}, {}: {error}", workload.name(), row.contestant.label(builds)));
            }
            row.rounds.push(figures.ok());
        }
    }
    let done = WorkloadResult { workload, rows };
    show_progress("");
    eprintln!("{}", summary(&done, builds));
    done
}

/// The line that is printed at the end of a workload.
fn summary(done: &WorkloadResult, builds: usize) -> String {
    let figure = done.workload.kind.figure();
    let of = |row: &ContestantRow| {
        let shown = match done.times_floor(row, figure) {
            Some(ratio) if row.contestant != Contestant::Floor => format!("{} × floor", number(ratio.median)),
            _ => number(row.spread(figure)?.median),
        };
        Some(format!("{} {shown}", row.contestant.label(builds)))
    };
    let figures: Vec<String> = done.rows.iter().filter_map(of).collect();
    format!("{}: {}: {}", done.workload.name(), label(figure), figures.join(", "))
}

/// Shows what is being measured, in one line that replaces the previous one. Prints nothing if standard error is not a
/// terminal.
fn show_progress(line: &str) {
    let mut err = std::io::stderr().lock();
    if err.is_terminal() {
        let _ = write!(err, "\r\x1b[K{line}");
        let _ = err.flush();
    }
}

/// Raises the limit of open files as far as permitted, and returns it.
fn open_file_limit() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(limit).unwrap_or(usize::MAX)
}
