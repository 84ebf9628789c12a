//! The results of a measurement for the user: a table and a histogram, in plain ASCII.

use std::fmt::Write;
use std::time::Duration;

use super::checker::Faults;
use super::histogram::Histogram;
use super::outcome::{ModeOutcome, QUANTILES, Spent, name};
use super::process::Process;
use crate::cli::Mode;

/// The length of the longest bar.
const BAR: usize = 40;

/// Appends one mode's table.
pub(super) fn table(outcome: &ModeOutcome, heading: &str, daemon: Option<&Process>, out: &mut String) {
    let mut row = |key: &str, value: String| {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "  {key:<18}{value}");
    };
    row(&name(outcome.mode), heading.to_owned());
    let receivers = match (outcome.receivers, outcome.echo) {
        (0, _) => "the publisher itself".to_owned(),
        (count, true) => format!("{}, and the publisher itself", number(count as u64)),
        (count, false) => number(count as u64),
    };
    row("receivers", receivers);
    if outcome.mode != Mode::Idle {
        let (messages, seconds) = (number(outcome.messages), outcome.elapsed.as_secs_f64());
        let rate = outcome.messages as f64 / seconds.max(1e-9);
        row("messages", format!("{messages} in {seconds:.2} s, {} a second", number(rate as u64)));
        row("deliveries", format!("{}, {} a second", number(outcome.deliveries), number(outcome.rate() as u64)));
    }
    match (&outcome.daemon, daemon) {
        (Some(spent), Some(process)) => row("daemon CPU", format!("{} ({})", cpu(spent, outcome), process.label())),
        _ => row("daemon CPU", "unknown; use --server-pid".to_owned()),
    }
    row("generator CPU", cpu(&outcome.generator, outcome));
    if let Some(idle) = &outcome.idle {
        row("daemon wakeups", idle.wakeups.map_or_else(|| "unknown".to_owned(), number));
        let memory = idle.bytes_per_connection.map(|bytes| format!("{bytes:.0} bytes a connection"));
        row("daemon memory", memory.unwrap_or_else(|| "unknown; use --server-pid".to_owned()));
    }
    let times = outcome.times.as_ref().filter(|times| times.count() > 0);
    if let Some(times) = times {
        row(if outcome.mode == Mode::PingPong { "round trip" } else { "latency" }, quantiles(times));
    }
    if let Some(late) = outcome.late.as_ref().filter(|late| late.count() > 0) {
        row("sent late by", quantiles(late));
    }
    if outcome.foreign > 0 {
        row("others", format!("{} upcalls of other senders, ignored", number(outcome.foreign)));
    }
    let received =
        if outcome.faults.any() { faults(&outcome.faults) } else { "right: order, count, no gaps".to_owned() };
    row("received", received);
    if let Some(times) = &outcome.times {
        out.push('\n');
        histogram(times, out);
    }
}

/// The faults in words.
pub(super) fn faults(faults: &Faults) -> String {
    [
        (faults.lost, "lost"),
        (faults.duplicates, "received twice"),
        (faults.reordered, "out of order"),
        (faults.damaged, "damaged"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{} {what}", number(*count)))
    .collect::<Vec<_>>()
    .join(", ")
}

fn cpu(spent: &Spent, outcome: &ModeOutcome) -> String {
    let total = spent.cpu.best().as_secs_f64();
    match spent.per_delivery {
        Some(microseconds) if outcome.mode != Mode::Idle => {
            format!("{microseconds:.3} us a delivery, {total:.3} s")
        }
        _ => format!("{:.3} ms in {:.2} s", total * 1e3, outcome.elapsed.as_secs_f64()),
    }
}

fn quantiles(times: &Histogram) -> String {
    let mut text = String::new();
    for (name, part) in QUANTILES {
        let _ = write!(text, "{name} {}, ", time(times.quantile(part)));
    }
    let _ = write!(text, "max {}", time(times.max()));
    text
}

fn histogram(times: &Histogram, out: &mut String) {
    let rows = times.rows();
    let longest = rows.iter().map(|(_, _, count)| *count).max().unwrap_or(1).max(1);
    for (low, high, count) in rows {
        let bar = "#".repeat((count as f64 / longest as f64 * BAR as f64).round() as usize);
        let share = count as f64 * 100.0 / times.count() as f64;
        let (low, high) = (time(Duration::from_nanos(low)), time(Duration::from_nanos(high)));
        let _ = writeln!(out, "  {low:>8} - {high:<8} {share:6.2} % {bar}");
    }
}

fn time(time: Duration) -> String {
    match time.as_nanos() as f64 {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e5 => format!("{:.1} us", ns / 1e3),
        ns if ns < 1e6 => format!("{:.0} us", ns / 1e3),
        ns if ns < 1e8 => format!("{:.1} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

/// The number with a comma between thousands.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_readable() {
        for (value, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(value), text);
        }
        for (ns, text) in [(7, "7 ns"), (7_250, "7.2 us"), (725_000, "725 us"), (7_250_000, "7.2 ms")] {
            assert_eq!(time(Duration::from_nanos(ns)), text);
        }
        assert_eq!(time(Duration::from_millis(1_500)), "1.50 s");
    }

    #[test]
    fn every_fault_has_words() {
        let all = Faults { lost: 1_000, duplicates: 2, reordered: 3, damaged: 4 };
        assert_eq!(faults(&all), "1,000 lost, 2 received twice, 3 out of order, 4 damaged");
    }

    #[test]
    fn bars_are_as_long_as_their_share() {
        let mut times = Histogram::default();
        (0..3).for_each(|_| times.record(40));
        times.record(100);
        let mut out = String::new();
        histogram(&times, &mut out);
        let bars: Vec<usize> = out.lines().map(|line| line.matches('#').count()).collect();
        assert_eq!(bars, [40, 13], "{out}");
    }
}
