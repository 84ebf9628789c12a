//! The marks: what upcalld must reach, and whether it does.

use crate::contestants::{Contestant, Protocol};
use crate::measure::{BINARY, CPU, IDLE, P50, READY, RESIDENT, SERVED, SILENT, TOTAL, WAKEUPS};
use crate::results::{Done, Results, Row};

/// What a figure is held against.
#[derive(Debug, Clone, Copy)]
enum Limit {
    /// A multiple of the floor.
    Floor(f64),
    /// A number.
    Number(f64),
    /// The same figure of ncat.
    Ncat,
    /// The same figure of every peer.
    Peers,
}

/// One mark.
struct Mark {
    work: &'static str,
    figure: &'static str,
    protocol: Option<Protocol>,
    limit: Limit,
}

/// A mark and what was measured.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Judgement {
    /// The work.
    pub(crate) work: String,
    /// What is wanted.
    pub(crate) wanted: String,
    /// What there is.
    pub(crate) measured: Vec<Measured>,
}

/// What one way of using upcalld has reached.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Measured {
    /// The contestant.
    pub(crate) who: String,
    /// The figure, as the mark has it.
    pub(crate) figure: String,
    /// Whether that is enough.
    pub(crate) met: bool,
}

impl Judgement {
    /// Whether all of them have reached it.
    pub(crate) fn met(&self) -> bool {
        self.measured.iter().all(|measured| measured.met)
    }
}

fn marks() -> Vec<Mark> {
    use Limit::{Floor, Ncat, Number, Peers};
    let mut marks = Vec::new();
    let mut add = |work, figure, protocol, limit| marks.push(Mark { work, figure, protocol, limit });
    for work in ["fan-out tcp 1→10", "fan-out tcp 1→100", "fan-out tcp 1→1,000"] {
        add(work, CPU, None, Floor(1.3));
        add(work, CPU, None, Ncat);
    }
    add("fan-out tcp 1→10,000", CPU, None, Floor(1.3));
    for work in ["fan-out unix 1→10", "fan-out unix 1→100", "fan-out unix 1→1,000"] {
        add(work, CPU, None, Floor(2.0));
    }
    add("fan-out udp 1→100", CPU, Some(Protocol::Native), Floor(0.35));
    add("fan-out udp 1→100", CPU, Some(Protocol::Text), Floor(1.15));
    add("fan-out unix-datagram 1→100", CPU, Some(Protocol::Text), Floor(1.15));
    for work in ["round trip tcp", "round trip unix", "round trip udp", "round trip unix-datagram"] {
        add(work, P50, None, Floor(1.1));
        add(work, P50, None, Peers);
    }
    for (work, limit) in [("lone tcp 1→100", 1.05), ("lone unix 1→100", 1.2)] {
        add(work, CPU, None, Floor(limit));
        add(work, P50, None, Peers);
    }
    // What a session of a native client takes has no mark.
    for figure in [SILENT, SERVED] {
        add("idle tcp 10,000", figure, Some(Protocol::Text), Number(256.0));
    }
    add("idle tcp 10,000", IDLE, None, Number(0.05));
    add("idle tcp 10,000", WAKEUPS, None, Number(1.0));
    add("start", READY, None, Number(10.0));
    add("start", BINARY, None, Number(4.0));
    add("start", RESIDENT, None, Number(4.0));
    marks
}

/// Judges what was measured, as far as it was.
pub(crate) fn judge(results: &Results) -> Vec<Judgement> {
    let mut judgements = Vec::new();
    for mark in marks() {
        let Some(done) = results.work(mark.work) else { continue };
        let wanted = |row: &&Row| mark.protocol.is_none_or(|protocol| row.protocol() == Some(protocol));
        let rows = done.rows.iter().filter(|row| row.who.is_upcalld()).filter(wanted);
        let measured: Vec<Measured> = rows.filter_map(|row| measured(results, &mark, done, row)).collect();
        if !measured.is_empty() {
            judgements.push(Judgement { work: done.work.name(), wanted: mark.wanted(), measured });
        }
    }
    judgements
}

impl Mark {
    fn wanted(&self) -> String {
        let figure = short(self.figure);
        match self.limit {
            Limit::Floor(limit) => format!("{figure} ≤ {limit} × floor"),
            Limit::Number(limit) => format!("{figure} ≤ {limit}"),
            Limit::Ncat => format!("{figure} below ncat"),
            Limit::Peers => format!("{figure} not above any peer"),
        }
    }
}

fn measured(results: &Results, mark: &Mark, done: &Done, row: &Row) -> Option<Measured> {
    let (figure, met) = match mark.limit {
        Limit::Floor(limit) => {
            let ratio = done.times_floor(row, mark.figure)?;
            let spread = format!("{} ({}–{})", number(ratio.median), number(ratio.least), number(ratio.most));
            (spread, ratio.median <= limit)
        }
        Limit::Number(limit) => {
            let ours = row.spread(mark.figure)?.median;
            (number(ours), ours <= limit)
        }
        Limit::Ncat => {
            let ratio = done.ratio(row, Contestant::Ncat, mark.figure)?.median;
            // ncat does not set TCP_NODELAY: part of its sending is done when the receivers' side acknowledges.
            let total = done.ratio(row, Contestant::Ncat, TOTAL)?.median;
            (format!("{} of it ({} with the load's CPU)", number(ratio), number(total)), ratio < 1.0)
        }
        Limit::Peers => {
            let peers = done.rows.iter().filter(|row| Contestant::PEERS.contains(&row.who));
            let ratios = peers.filter_map(|peer| Some((done.ratio(row, peer.who, mark.figure)?.median, peer.who)));
            let (worst, peer) = ratios.max_by(|a, b| a.0.total_cmp(&b.0))?;
            (format!("{} of {}", number(worst), peer.label(results.builds)), worst <= 1.0)
        }
    };
    let who = row.who.label(results.builds).replace("upcalld ", "");
    Some(Measured { who, figure, met })
}

/// A figure's name for people, with its unit.
pub(crate) fn short(figure: &str) -> &str {
    match figure {
        CPU => "CPU per delivery",
        P50 => "p50",
        SILENT => "own bytes per silent endpoint",
        SERVED => "own bytes per endpoint after an upcall",
        IDLE => "idle CPU in %",
        WAKEUPS => "idle wakeups a second",
        READY => "ms from start to READY",
        BINARY => "MB of binary",
        RESIDENT => "MB resident",
        other => other,
    }
}

/// A number with about three digits.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size < 0.1 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => crate::workloads::thousands(value.round() as usize),
    }
}
