//! The marks: the figures that upcalld must reach, and whether it reaches them.

use crate::contestants::{ClientProtocol, Contestant};
use crate::figures::{BINARY, CPU, IDLE, P50, READY, RESIDENT, SERVED, SILENT, TOTAL, WAKEUPS, label};
use crate::numbers::number;
use crate::results::{ContestantRow, Results, WorkloadResult};

/// What a figure is compared with.
#[derive(Debug, Clone, Copy)]
enum Limit {
    /// A multiple of the figure of the floor.
    Floor(f64),
    /// A number.
    Number(f64),
    /// The same figure of ncat.
    Ncat,
    /// The same figure of every peer.
    Peers,
}

/// A limit that upcalld must meet in a workload, with one protocol or with all.
struct Mark {
    workload: &'static str,
    figure: &'static str,
    protocol: Option<ClientProtocol>,
    limit: Limit,
}

/// A mark and the measurements for it.
#[derive(Debug, serde::Serialize)]
pub(crate) struct MarkResult {
    /// The name of the workload.
    #[serde(rename = "work")]
    pub(crate) workload: String,
    /// The limit.
    pub(crate) wanted: String,
    /// What was measured.
    pub(crate) measured: Vec<MarkMeasurement>,
}

/// The result of one contestant.
#[derive(Debug, serde::Serialize)]
pub(crate) struct MarkMeasurement {
    /// The name of the contestant.
    #[serde(rename = "who")]
    pub(crate) contestant: String,
    /// The figure, in the unit of the mark.
    pub(crate) figure: String,
    /// Whether it is within the limit.
    pub(crate) met: bool,
}

impl MarkResult {
    /// Whether all measurements are within the limit.
    pub(crate) fn met(&self) -> bool {
        self.measured.iter().all(|measured| measured.met)
    }
}

/// Every mark, in the order of the report.
fn all_marks() -> Vec<Mark> {
    use Limit::{Floor, Ncat, Number, Peers};
    let mut marks = Vec::new();
    let mut add = |workload, figure, protocol, limit| marks.push(Mark { workload, figure, protocol, limit });
    for workload in ["fan-out tcp 1→10", "fan-out tcp 1→100", "fan-out tcp 1→1,000"] {
        add(workload, CPU, None, Floor(1.3));
        add(workload, CPU, None, Ncat);
    }
    add("fan-out tcp 1→10,000", CPU, None, Floor(1.3));
    for workload in ["fan-out unix 1→10", "fan-out unix 1→100", "fan-out unix 1→1,000"] {
        add(workload, CPU, None, Floor(2.0));
    }
    add("fan-out udp 1→100", CPU, Some(ClientProtocol::Native), Floor(0.35));
    add("fan-out udp 1→100", CPU, Some(ClientProtocol::Text), Floor(1.15));
    add("fan-out unix-datagram 1→100", CPU, Some(ClientProtocol::Text), Floor(1.15));
    for workload in ["round trip tcp", "round trip unix", "round trip udp", "round trip unix-datagram"] {
        add(workload, P50, None, Floor(1.1));
        add(workload, P50, None, Peers);
    }
    for (workload, limit) in [("lone tcp 1→100", 1.05), ("lone unix 1→100", 1.2)] {
        add(workload, CPU, None, Floor(limit));
        add(workload, P50, None, Peers);
    }
    // There is no mark for the memory of a native session.
    for figure in [SILENT, SERVED] {
        add("idle tcp 10,000", figure, Some(ClientProtocol::Text), Number(256.0));
    }
    add("idle tcp 10,000", IDLE, None, Number(0.05));
    add("idle tcp 10,000", WAKEUPS, None, Number(1.0));
    add("start", READY, None, Number(10.0));
    add("start", BINARY, None, Number(4.0));
    add("start", RESIDENT, None, Number(4.0));
    marks
}

/// Compares the results with the marks, as far as they were measured.
pub(crate) fn evaluate(results: &Results) -> Vec<MarkResult> {
    let mut evaluated = Vec::new();
    for mark in all_marks() {
        let Some(done) = results.workload(mark.workload) else { continue };
        let wanted = |row: &&ContestantRow| mark.protocol.is_none_or(|protocol| row.protocol() == Some(protocol));
        let rows = done.rows.iter().filter(|row| row.contestant.is_upcalld()).filter(wanted);
        let measured: Vec<MarkMeasurement> = rows.filter_map(|row| measured(results, &mark, done, row)).collect();
        if !measured.is_empty() {
            evaluated.push(MarkResult { workload: done.workload.name(), wanted: mark.wanted(), measured });
        }
    }
    evaluated
}

impl Mark {
    fn wanted(&self) -> String {
        let figure = label(self.figure);
        match self.limit {
            Limit::Floor(limit) => format!("{figure} ≤ {limit} × floor"),
            Limit::Number(limit) => format!("{figure} ≤ {limit}"),
            Limit::Ncat => format!("{figure} below ncat"),
            Limit::Peers => format!("{figure} not above any peer"),
        }
    }
}

fn measured(results: &Results, mark: &Mark, done: &WorkloadResult, row: &ContestantRow) -> Option<MarkMeasurement> {
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
            // ncat does not set TCP_NODELAY: part of its sending happens when the receiver's kernel acknowledges.
            let total = done.ratio(row, Contestant::Ncat, TOTAL)?.median;
            (format!("{} of it ({} with the load's CPU)", number(ratio), number(total)), ratio < 1.0)
        }
        Limit::Peers => {
            let peers = done.rows.iter().filter(|row| Contestant::PEERS.contains(&row.contestant));
            let ratios =
                peers.filter_map(|peer| Some((done.ratio(row, peer.contestant, mark.figure)?.median, peer.contestant)));
            let (worst, peer) = ratios.max_by(|a, b| a.0.total_cmp(&b.0))?;
            (format!("{} of {}", number(worst), peer.label(results.builds)), worst <= 1.0)
        }
    };
    let contestant = row.contestant.label(results.builds).replace("upcalld ", "");
    Some(MarkMeasurement { contestant, figure, met })
}
