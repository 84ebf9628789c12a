//! The report for people: a table for each kind of workload, and the marks.

use std::fmt::Write;

use super::machine;
use crate::contestants::Contestant;
use crate::figures::{BINARY, CPU, IDLE, LOAD, MESSAGES, P50, READY, RESIDENT, SERVED, SILENT, WAKEUPS};
use crate::marks;
use crate::measure::MeasurementSettings;
use crate::numbers::number;
use crate::results::{ContestantRow, Results};
use crate::servers::ServerHost;
use crate::workloads::WorkloadKind;

/// How a table cell shows a figure.
#[derive(Clone, Copy)]
enum CellStyle {
    /// As a multiple of the floor's figure. The floor's own figure is shown with this unit.
    TimesFloor(&'static str),
    /// As a plain number.
    Plain,
}

/// Writes the whole report.
pub(crate) fn write(results: &Results, host: &ServerHost, settings: &MeasurementSettings, rounds: usize) -> String {
    let mut out = String::new();
    introduction(&mut out, settings, rounds);
    if host.builds.len() > 1 {
        for (build, letter) in host.builds.iter().zip('A'..) {
            let _ = writeln!(out, "{letter} is {}.", build.display());
        }
    }
    let floor = CellStyle::TimesFloor("µs");
    table(&mut out, results, WorkloadKind::FanOut, "Fan-out: server CPU per delivery, × floor", &[("", CPU, floor)]);
    table(
        &mut out,
        results,
        WorkloadKind::FanOut,
        "… and the load's own CPU per delivery, µs",
        &[("", LOAD, CellStyle::Plain)],
    );
    table(&mut out, results, WorkloadKind::RoundTrip, "Round trip of one message: p50, × floor", &[("", P50, floor)]);
    let columns = [(", CPU", CPU, floor), ("p50", P50, floor), ("messages a second", MESSAGES, CellStyle::Plain)];
    table(&mut out, results, WorkloadKind::Lone, "Lone messages, 1,000 a second at most, × floor", &columns);
    let columns = [
        (": own bytes per endpoint, silent", SILENT, CellStyle::Plain),
        ("after a message", SERVED, CellStyle::Plain),
        ("CPU, %", IDLE, CellStyle::Plain),
        ("wakeups a second", WAKEUPS, CellStyle::Plain),
    ];
    table(&mut out, results, WorkloadKind::Idle, "Idle endpoints", &columns);
    let columns = [
        (" to READY, ms", READY, CellStyle::Plain),
        ("binary, MB", BINARY, CellStyle::Plain),
        ("resident, MB", RESIDENT, CellStyle::Plain),
    ];
    table(&mut out, results, WorkloadKind::Start, "Start", &columns);
    marks_table(&mut out, results);
    left_out(&mut out, results);
    out
}

/// The machine and the setup.
fn introduction(out: &mut String, settings: &MeasurementSettings, rounds: usize) {
    let _ = writeln!(
        out,
        "{}; load average at the end {}. Median of {rounds} rounds (least–most); in each round all take a turn, \
         {} ms after {} ms of warm-up. Server and load share one core, at the highest priority that is permitted. \
         Messages have 64 bytes, and at most {} are outstanding to the slowest receiver.",
        machine::machine(),
        machine::load_average(),
        settings.duration.as_millis(),
        settings.warm_up.as_millis(),
        settings.window,
    );
    let peers = Contestant::PEERS.into_iter().filter_map(|peer| {
        let version = machine::version(peer)?;
        Some(format!("{} {version} ({})", peer.label(1), peer.setting()))
    });
    let peers = peers.collect::<Vec<_>>().join(", ");
    let peers = if peers.is_empty() { peers } else { format!(" {peers}.") };
    let _ = writeln!(
        out,
        "\nupcalld: all defaults, except `format = \"{{data}}\"` and the log of inputs, which is off.{peers} \
         An upcall to a native client has 32 bytes more than its message: a floor that sends as many has a row of its \
         own. Native clients over datagrams acknowledge, and have at most 64 inputs without a receipt. Over Unix \
         datagrams at most 8 messages are outstanding, since the kernel queues no more than eleven.",
    );
}

/// A table with a column for each workload of a kind and each of `columns` (title, figure, style).
fn table(
    out: &mut String,
    results: &Results,
    kind: WorkloadKind,
    title: &str,
    columns: &[(&str, &'static str, CellStyle)],
) {
    let workloads: Vec<_> = results.workloads.iter().filter(|done| done.workload.kind == kind).collect();
    let mut contestants: Vec<Contestant> = Vec::new();
    for row in workloads.iter().flat_map(|done| &done.rows).filter(|row| row.left_out.is_none()) {
        if !contestants.contains(&row.contestant) {
            contestants.push(row.contestant);
        }
    }
    if contestants.is_empty() {
        return;
    }
    let mut heads = format!("| {title} |");
    for done in &workloads {
        let name = done.workload.name();
        let name =
            ["fan-out ", "round trip ", "lone "].iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(&name);
        for (index, (column, ..)) in columns.iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            let _ = write!(heads, " {name}{column} |");
        }
    }
    let _ = writeln!(out, "\n{heads}\n|---|{}", "---|".repeat(workloads.len() * columns.len()));
    for contestant in contestants {
        let _ = write!(out, "| {} |", contestant.label(results.builds));
        for done in &workloads {
            let row = done.rows.iter().find(|row| row.contestant == contestant);
            for (_, figure, shown) in columns {
                let cell = row.and_then(|row| match shown {
                    CellStyle::TimesFloor(_) if contestant != Contestant::Floor => {
                        let ratio = done.times_floor(row, figure)?;
                        Some(format!("{} ({}–{})", number(ratio.median), number(ratio.least), number(ratio.most)))
                    }
                    CellStyle::TimesFloor(unit) => Some(format!("1 = {} {unit}", plain(row, figure)?)),
                    CellStyle::Plain => plain(row, figure),
                });
                let _ = write!(out, " {} |", cell.as_deref().unwrap_or("–"));
            }
        }
        out.push('\n');
    }
}

fn plain(row: &ContestantRow, figure: &str) -> Option<String> {
    Some(number(row.spread(figure)?.median))
}

fn marks_table(out: &mut String, results: &Results) {
    let marks = marks::evaluate(results);
    if marks.is_empty() {
        return;
    }
    let met = marks.iter().filter(|mark| mark.met()).count();
    let _ = writeln!(out, "\n| Marks: {met} of {} met | wanted | measured | |\n|---|---|---|---|", marks.len());
    for mark in &marks {
        let figures = mark.measured.iter().map(|measured| match measured.met {
            true => format!("{} {}", measured.contestant, measured.figure),
            false => format!("**{} {}**", measured.contestant, measured.figure),
        });
        let figures = figures.collect::<Vec<_>>().join(", ");
        let met = if mark.met() { "met" } else { "**not met**" };
        let _ = writeln!(out, "| {} | {} | {figures} | {met} |", mark.workload, mark.wanted);
    }
}

fn left_out(out: &mut String, results: &Results) {
    let mut reasons: Vec<String> = Vec::new();
    for done in &results.workloads {
        for row in &done.rows {
            let Some(reason) = &row.left_out else { continue };
            let reason = format!("{}, which {reason}", row.contestant.label(results.builds));
            match reasons.iter_mut().find(|known| known.starts_with(&reason)) {
                Some(known) => *known += &format!(", {}", done.workload.name()),
                None => reasons.push(format!("{reason}: {}", done.workload.name())),
            }
        }
    }
    for (title, what) in [("Left out", &reasons), ("Failed", &results.errors)] {
        if !what.is_empty() {
            let _ = writeln!(out, "\n{title}: {}.", what.join("; "));
        }
    }
}
