//! The report for people: a table for each kind of work, and the marks.

use std::fmt::Write;

use super::machine;
use crate::contestants::Contestant;
use crate::marks::{self, number};
use crate::measure::{BINARY, CPU, IDLE, LOAD, MESSAGES, P50, Pace, READY, RESIDENT, SERVED, SILENT, WAKEUPS};
use crate::results::{Results, Row};
use crate::servers::Host;
use crate::workloads::Kind;

/// How a figure is shown.
#[derive(Clone, Copy)]
enum Shown {
    /// As a multiple of the floor's, whose own is shown with its unit.
    TimesFloor(&'static str),
    /// As it is.
    Plain,
}

/// All of it.
pub(crate) fn write(results: &Results, host: &Host, pace: &Pace, rounds: usize) -> String {
    let mut out = String::new();
    introduction(&mut out, pace, rounds);
    if host.builds.len() > 1 {
        for (build, letter) in host.builds.iter().zip('A'..) {
            let _ = writeln!(out, "{letter} is {}.", build.display());
        }
    }
    let floor = Shown::TimesFloor("µs");
    table(&mut out, results, Kind::FanOut, "Fan-out: server CPU per delivery, × floor", &[("", CPU, floor)]);
    table(&mut out, results, Kind::FanOut, "… and the load's own CPU per delivery, µs", &[("", LOAD, Shown::Plain)]);
    table(&mut out, results, Kind::RoundTrip, "Round trip of one message: p50, × floor", &[("", P50, floor)]);
    let columns = [(", CPU", CPU, floor), ("p50", P50, floor), ("messages a second", MESSAGES, Shown::Plain)];
    table(&mut out, results, Kind::Lone, "Lone messages, 1,000 a second at most, × floor", &columns);
    let columns = [
        (": own bytes per endpoint, silent", SILENT, Shown::Plain),
        ("after a message", SERVED, Shown::Plain),
        ("CPU, %", IDLE, Shown::Plain),
        ("wakeups a second", WAKEUPS, Shown::Plain),
    ];
    table(&mut out, results, Kind::Idle, "Idle endpoints", &columns);
    let columns = [
        (" to READY, ms", READY, Shown::Plain),
        ("binary, MB", BINARY, Shown::Plain),
        ("resident, MB", RESIDENT, Shown::Plain),
    ];
    table(&mut out, results, Kind::Start, "Start", &columns);
    judged(&mut out, results);
    left_out(&mut out, results);
    out
}

/// The machine, and how everything was set up.
fn introduction(out: &mut String, pace: &Pace, rounds: usize) {
    let _ = writeln!(
        out,
        "{}; load average at the end {}. Median of {rounds} rounds (least–most) in which all take turns, {} ms each after {} ms \
         to warm up; server and load on one core, at \
         the highest priority that is permitted; messages of 64 bytes, at most {} outstanding to the slowest receiver.",
        machine::machine(),
        machine::load_average(),
        pace.duration.as_millis(),
        pace.warm_up.as_millis(),
        pace.window,
    );
    let peers = Contestant::PEERS.into_iter().filter_map(|peer| {
        let version = machine::version(peer)?;
        Some(format!("{} {version} ({})", peer.label(1), peer.setting()))
    });
    let peers = peers.collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        out,
        "\nupcalld: everything at its default but `format = \"{{data}}\"` and the log of inputs, which is off. {peers}{} \
         An upcall to a native client has 32 bytes more than its message: the floor with as many has a row of its own. \
         Native clients over datagrams acknowledge, and have at most 64 inputs without a receipt; over Unix datagrams at most 8 \
         messages are outstanding, since the kernel queues no more than eleven.",
        if peers.is_empty() { "" } else { "." },
    );
}

/// A column for each work of a kind and each of `columns` (its title, the figure, how it is shown).
fn table(out: &mut String, results: &Results, kind: Kind, title: &str, columns: &[(&str, &'static str, Shown)]) {
    let works: Vec<_> = results.works.iter().filter(|done| done.work.kind == kind).collect();
    let mut contestants: Vec<Contestant> = Vec::new();
    for row in works.iter().flat_map(|done| &done.rows).filter(|row| row.left_out.is_none()) {
        if !contestants.contains(&row.who) {
            contestants.push(row.who);
        }
    }
    if contestants.is_empty() {
        return;
    }
    let mut heads = format!("| {title} |");
    for done in &works {
        let name = done.work.name();
        let name =
            ["fan-out ", "round trip ", "lone "].iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(&name);
        for (place, (column, ..)) in columns.iter().enumerate() {
            let name = if place == 0 { name } else { "" };
            let _ = write!(heads, " {name}{column} |");
        }
    }
    let _ = writeln!(out, "\n{heads}\n|---|{}", "---|".repeat(works.len() * columns.len()));
    for who in contestants {
        let _ = write!(out, "| {} |", who.label(results.builds));
        for done in &works {
            let row = done.rows.iter().find(|row| row.who == who);
            for (_, figure, shown) in columns {
                let cell = row.and_then(|row| match shown {
                    Shown::TimesFloor(_) if who != Contestant::Floor => {
                        let ratio = done.times_floor(row, figure)?;
                        Some(format!("{} ({}–{})", number(ratio.median), number(ratio.least), number(ratio.most)))
                    }
                    Shown::TimesFloor(unit) => Some(format!("1 = {} {unit}", plain(row, figure)?)),
                    Shown::Plain => plain(row, figure),
                });
                let _ = write!(out, " {} |", cell.as_deref().unwrap_or("–"));
            }
        }
        out.push('\n');
    }
}

fn plain(row: &Row, figure: &str) -> Option<String> {
    Some(number(row.spread(figure)?.median))
}

fn judged(out: &mut String, results: &Results) {
    let judgements = marks::judge(results);
    if judgements.is_empty() {
        return;
    }
    let met = judgements.iter().filter(|judgement| judgement.met()).count();
    let _ = writeln!(out, "\n| Marks: {met} of {} met | wanted | measured | |\n|---|---|---|---|", judgements.len());
    for judgement in &judgements {
        let figures = judgement.measured.iter().map(|measured| match measured.met {
            true => format!("{} {}", measured.who, measured.figure),
            false => format!("**{} {}**", measured.who, measured.figure),
        });
        let figures = figures.collect::<Vec<_>>().join(", ");
        let met = if judgement.met() { "met" } else { "**not met**" };
        let _ = writeln!(out, "| {} | {} | {figures} | {met} |", judgement.work, judgement.wanted);
    }
}

fn left_out(out: &mut String, results: &Results) {
    let mut reasons: Vec<String> = Vec::new();
    for done in &results.works {
        for row in &done.rows {
            let Some(reason) = &row.left_out else { continue };
            let reason = format!("{}, which {reason}", row.who.label(results.builds));
            match reasons.iter_mut().find(|known| known.starts_with(&reason)) {
                Some(known) => *known += &format!(", {}", done.work.name()),
                None => reasons.push(format!("{reason}: {}", done.work.name())),
            }
        }
    }
    for (title, what) in [("Left out", &reasons), ("Failed", &results.errors)] {
        if !what.is_empty() {
            let _ = writeln!(out, "\n{title}: {}.", what.join("; "));
        }
    }
}
