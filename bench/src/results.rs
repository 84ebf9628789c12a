//! The results of all rounds: medians, and ratios to the floor in the same round.

use crate::contestants::{ClientProtocol, Contestant};
use crate::figures::RoundFigures;
use crate::workloads::Workload;

/// The results of a whole run.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// How many builds of upcalld there are.
    pub(crate) builds: usize,
    /// One for each workload.
    pub(crate) workloads: Vec<WorkloadResult>,
    /// Errors: messages that were lost or out of order, and servers that did not start.
    pub(crate) errors: Vec<String>,
    /// Whether an error concerns upcalld or a floor, not a peer.
    pub(crate) failed: bool,
}

/// The results of a workload.
#[derive(Debug)]
pub(crate) struct WorkloadResult {
    /// The workload.
    pub(crate) workload: Workload,
    /// Its contestants.
    pub(crate) rows: Vec<ContestantRow>,
}

/// The results of a contestant in a workload.
#[derive(Debug)]
pub(crate) struct ContestantRow {
    /// The contestant.
    pub(crate) contestant: Contestant,
    /// The reason why it did not take part; `None` if it did.
    pub(crate) left_out: Option<String>,
    /// The figures of each round; `None` for a round that failed.
    pub(crate) rounds: Vec<Option<RoundFigures>>,
}

/// A median with the smallest and the largest value.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Spread {
    /// The median.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) least: f64,
    /// The largest.
    pub(crate) most: f64,
}

impl Spread {
    /// The spread of these values; `None` if none of them is finite.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.retain(|value| value.is_finite());
        values.sort_unstable_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 };
        Some(Spread { median, least, most })
    }
}

impl ContestantRow {
    /// A figure over all rounds.
    pub(crate) fn spread(&self, figure: &str) -> Option<Spread> {
        Spread::of(self.rounds.iter().flatten().filter_map(|figures| figures.get(figure)).copied().collect())
    }

    /// The protocol of the clients, for upcalld.
    pub(crate) fn protocol(&self) -> Option<ClientProtocol> {
        match self.contestant {
            Contestant::Upcalld { protocol, .. } => Some(protocol),
            _ => None,
        }
    }
}

impl WorkloadResult {
    /// A figure as a multiple of that of another contestant in the same round.
    pub(crate) fn ratio(&self, row: &ContestantRow, to: Contestant, figure: &str) -> Option<Spread> {
        let other = self.rows.iter().find(|row| row.contestant == to)?;
        let pairs = row.rounds.iter().zip(&other.rounds);
        Spread::of(pairs.filter_map(|(a, b)| Some(a.as_ref()?.get(figure)? / b.as_ref()?.get(figure)?)).collect())
    }

    /// A figure as a multiple of that of the floor in the same round.
    pub(crate) fn times_floor(&self, row: &ContestantRow, figure: &str) -> Option<Spread> {
        self.ratio(row, Contestant::Floor, figure)
    }
}

impl Results {
    /// The results of a workload, by its name.
    pub(crate) fn workload(&self, name: &str) -> Option<&WorkloadResult> {
        self.workloads.iter().find(|done| done.workload.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(Spread::of(vec![4.0, 1.0]).map(|s| s.median), Some(2.5));
        assert_eq!(Spread::of(vec![f64::NAN]), None);
    }
}
